#!/bin/sh
# A pull request from the first baseline to the bundle, played for real in a git repository of its own, with the script
# that the CI templates run. What it prints is docs/pull-request.md:
#
#   examples/pull-request/flow.sh > docs/pull-request.md
#   examples/pull-request/flow.sh FOLDER      # keeps the repository and all reports in a new folder
#
# Needs git, and earshot on the PATH. It ends with 0 when every step ended as it should.
set -eu

sample=$(cd "$(dirname "$0")" && pwd)
gate=$sample/../../ci/shell/gate.sh
if [ $# -gt 0 ]; then
    mkdir -- "$1"
    work=$(cd "$1" && pwd)
else
    work=$(mktemp -d)
    trap 'rm -rf "$work"' EXIT
fi

# As on a fresh runner, whatever the settings of the person who tries it.
unset EARSHOT_HOME EARSHOT_DATA GITHUB_ACTIONS GITHUB_STEP_SUMMARY GITHUB_OUTPUT
unset GATE_RECIPE GATE_DATA GATE_TARGETS GATE_BASELINE GATE_REMEASURE GATE_SOUND GATE_REPORTS GATE_CACHE GATE_TAG
export COLUMNS=120 GIT_CONFIG_GLOBAL=/dev/null GIT_CONFIG_NOSYSTEM=1
export GIT_AUTHOR_NAME=team GIT_AUTHOR_EMAIL=team@localhost GIT_COMMITTER_NAME=team GIT_COMMITTER_EMAIL=team@localhost
export GATE_BUDGETS=budgets.yaml

# expect CODE COMMAND...: shows the command and its exit code; another code than expected ends the flow.
expect() {
    wanted=$1 code=0
    shift
    "$@" >"$work/log" 2>&1 || code=$?
    # shellcheck disable=SC2016 # what is printed is meant as it stands
    printf '```console\n$ %s; echo $?\n%s\n```\n\n' "$shown" "$code"
    if [ "$code" -ne "$wanted" ]; then
        printf 'expected exit code %s, got %s:\n' "$wanted" "$code" >&2
        cat "$work/log" >&2
        exit 3
    fi
}

# judge CODE NAME: the gate as a CI job runs it; its reports are kept as NAME.
judge() {
    expect "$1" sh "$gate"
    mkdir -p "$work/reports"
    cp -R earshot-reports "$work/reports/$2"
}

say() { printf '%s\n\n' "$1"; }
fenced() { printf '```%s\n' "$1" && cat && printf '```\n\n'; }
# The report as it stands inside a page: its heading one level down, without the long table of every part of the test set.
report() { sed -e '/^Quality on the test set/,$d' -e 's/^###/####/' "$work/reports/$1/gate.md"; }

say '# A pull request, from the first baseline to the bundle'
# shellcheck disable=SC2016
say 'Written by `examples/pull-request/flow.sh`, which plays all of this for real: a repository, its runs, the gate
that the [CI templates](ci.md) run, and a bundle. Times depend on the machine and on what else it does.'

# ---- main gets its first baseline
mkdir "$work/repository"
cd "$work/repository"
git init --quiet --initial-branch=main
cp -R "$sample/recipe.yaml" "$sample/budgets.yaml" "$sample/.gitignore" "$sample/.github" .
git add . && git commit --quiet --message 'Recipe, budgets and workflow'

say '## The main branch gets a baseline'
say 'The job of the main branch holds its run to the absolute budgets of [budgets.yaml](../examples/pull-request/budgets.yaml),
and writes it down as the baseline:'
shown='GATE_BUDGETS=budgets.yaml GATE_PUBLISH=true sh gate.sh'
export GATE_PUBLISH=true
judge 0 main
unset GATE_PUBLISH
mkdir baselines
cp earshot-reports/baseline.json baselines/main.json
git add baselines && git commit --quiet --message 'Baseline of main'
git log --oneline --reverse --format='%s' | fenced ''

# ---- a change that makes the model worse
say '## A pull request makes the model smaller, and worse'
git checkout --quiet -b smaller
sed 's/ratio: 0.2/ratio: 0.6/' recipe.yaml >recipe.new && mv recipe.new recipe.yaml
git commit --quiet --all --message 'Half the model'
git diff --unified=0 main -- recipe.yaml | tail -n 3 | fenced diff
shown='GATE_BUDGETS=budgets.yaml sh gate.sh'
judge 1 worse
say 'The pull request is stopped. What its reviewer sees on the summary page (less quality by part of the test set):'
report worse

# ---- the fix
say '## The fix'
sed -e 's/ratio: 0.6/ratio: 0.25/' -e 's/steps_per_epoch: 30/steps_per_epoch: 60/' recipe.yaml >recipe.new
mv recipe.new recipe.yaml
git commit --quiet --all --message 'Prune less, tune longer'
git diff --unified=0 main -- recipe.yaml | grep '^[-+] ' | fenced diff
shown='GATE_BUDGETS=budgets.yaml sh gate.sh'
judge 0 fixed
say 'The same training was used again; only what the change touches was made anew.'
report fixed
git checkout --quiet main && git merge --quiet --no-ff --message 'Merge: a smaller model' smaller

# ---- the bundle
say '## What the device team gets'
shown='earshot bundle latest --target pi --budgets budgets.yaml --out hearing.zip'
expect 0 earshot bundle latest --target pi --budgets budgets.yaml --out hearing.zip
shown='earshot verify hearing.zip'
expect 0 earshot verify hearing.zip
say 'One byte in the middle of it changes on the way:'
middle=$(($(wc -c <hearing.zip) / 2))
byte=$(od -An -tu1 -j "$middle" -N 1 hearing.zip)
# shellcheck disable=SC2059 # the format is the byte
printf "\\$(printf '%03o' $(((byte + 1) % 256)))" | dd of=hearing.zip bs=1 seek="$middle" conv=notrunc 2>/dev/null
expect 1 earshot verify hearing.zip
fenced '' <"$work/log"
