#!/bin/sh
# The gate in any CI: fetch what the last good run made, run a recipe, write reports, and, on the main branch, make its
# run the next baseline. The GitHub action and the GitLab job run this file and nothing else.
#
# Everything is said by environment variables; what is not set is left out:
#   GATE_RECIPE     recipe file, or the name of one that comes with earshot       [recipe.yaml]
#   GATE_DATA       folder that the recipe calls ${EARSHOT_DATA}
#   GATE_TARGETS    devices to measure on: NAME,NAME...                           [the recipe's]
#   GATE_BUDGETS    budget file, or a set that comes with earshot                 [the recipe's]
#   GATE_BASELINE   run, tag or file that budgets compare with; none: no baseline [what the budgets name]
#   GATE_REMEASURE  true: times against a baseline are taken anew, both models by turns, here and now
#   GATE_SOUND      false: no clips of the test data in gate.html                 [true]
#   GATE_REPORTS    folder of reports: gate.md, gate.xml, gate.json, gate.html    [earshot-reports]
#   GATE_CACHE      location of shared artifacts, as for `earshot push` and `pull`
#   GATE_TAG        tag of the run that the cache holds                           [baseline]
#   GATE_PUBLISH    true: hold the run to its absolute budgets alone; when it keeps them it gets the tag, goes to the
#                   cache, and GATE_REPORTS/baseline.json is written. For the main branch.
# EARSHOT_HOME is the store, as everywhere. On GitHub, missed budgets become annotations and gate.md the job's summary.
#
# Exit code: that of `earshot run`. 0: all budgets kept; 1: one is missed or undecided; 2: the request is wrong; 3: the
# machine failed, or the cache when publishing.
set -eu

MISSED=1
WRONG=2
FAILED=3

say() { printf 'gate: %s\n' "$1" >&2; }

yes() {
    case $2 in
        true) return 0 ;;
        false | '') return 1 ;;
        *) say "$1 is neither true nor false" && exit "$WRONG" ;;
    esac
}

recipe=${GATE_RECIPE:-recipe.yaml}
budgets=${GATE_BUDGETS:-}
baseline=${GATE_BASELINE:-}
reports=${GATE_REPORTS:-earshot-reports}
cache=${GATE_CACHE:-}
tag=${GATE_TAG:-baseline}
publishing=false remeasuring=false sound=false annotating=false
if yes GATE_PUBLISH "${GATE_PUBLISH:-}"; then publishing=true baseline=none; fi
if yes GATE_REMEASURE "${GATE_REMEASURE:-}"; then remeasuring=true; fi
if yes GATE_SOUND "${GATE_SOUND:-true}"; then sound=true; fi
if [ "${GITHUB_ACTIONS:-}" = true ]; then annotating=true; fi

command -v earshot >/dev/null || { say 'no earshot on the PATH: install it first' && exit "$FAILED"; }
mkdir -p -- "$reports" || exit "$FAILED"
# A report of an earlier run must never stand in for one that could not be written.
rm -f -- "$reports/gate.md" "$reports/gate.xml" "$reports/gate.json" "$reports/gate.html" "$reports/baseline.json"

# Values are handed over as --option=VALUE and behind --, so that none of them is ever taken for an option or a command.
run() {
    set -- run --quiet
    if [ -n "${GATE_DATA:-}" ]; then set -- "$@" "--data=$GATE_DATA"; fi
    if [ -n "${GATE_TARGETS:-}" ]; then set -- "$@" "--targets=$GATE_TARGETS"; fi
    if $annotating && ! $remeasuring; then set -- "$@" --annotate; fi
    held_to_budgets "$@" -- "$recipe"
}

# The run that was judged, as its report calls it: `latest` could be another job's, where jobs share a store.
judged() { sed -n 's/^  "run": "\(.*\)",$/\1/p' <"$reports/gate.json"; }

remeasure() {
    set -- gate --remeasure
    if $annotating; then set -- "$@" --annotate; fi
    held_to_budgets "$@" -- "$made"
}

held_to_budgets() {
    command=$1
    shift
    if [ "$baseline" = none ]; then set -- --no-baseline "$@"
    elif [ -n "$baseline" ]; then set -- "--baseline=$baseline" "$@"; fi
    if [ -n "$budgets" ]; then set -- "--budgets=$budgets" "$@"; fi
    $sound || set -- --no-sound "$@"
    for ending in md xml json html; do set -- "--report=$reports/gate.$ending" "$@"; done
    earshot "$command" "$@"
}

publish() {
    earshot tag -- "$made" "$tag" && earshot baseline -- "$made" "$reports/baseline.json" || return
    if [ -n "$cache" ]; then earshot push --quiet -- "$cache" "$tag" || return "$FAILED"; fi
}

# What comes from the cache saves work and is checked byte by byte. Without it all is made here; a baseline that should
# have come from it is then missed by `earshot run`, loudly: what an older job's store calls so never stands in for it.
if [ -n "$cache" ] && ! earshot pull --quiet -- "$cache" "$tag"; then
    say 'nothing usable in the cache: going on without'
    earshot artifacts tag --remove -- "$tag" 2>/dev/null || :
fi

code=0
run || code=$?
if [ "$code" -le "$MISSED" ]; then made=$(judged) || made=; fi
if $remeasuring && [ "$code" -le "$MISSED" ]; then
    code=0
    remeasure || code=$?
fi
if $publishing && [ "$code" -eq 0 ]; then publish || code=$?; fi

if [ ! -f "$reports/gate.md" ]; then
    printf '### earshot gate: no verdict (exit code %s)\n\nThe log of the job says why.\n' "$code" >"$reports/gate.md"
fi
if [ -n "${GITHUB_STEP_SUMMARY:-}" ]; then cat -- "$reports/gate.md" >>"$GITHUB_STEP_SUMMARY"; fi
exit "$code"
