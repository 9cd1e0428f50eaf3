#!/bin/sh
# Times the model on a phone with TensorFlow Lite's benchmark_model (an arm64 binary), over adb; the network alone.
#   BENCHMARK=path/to/android_aarch64_benchmark_model sh benchmark.sh
set -eu
: "${BENCHMARK:?set BENCHMARK to the tool, version 2.14 or later}"
model=$(dirname "$0")/../@MODEL@
folder=/data/local/tmp/earshot-bundle
trap 'adb shell rm -rf "$folder"' EXIT
adb shell mkdir -p "$folder"
adb push "$BENCHMARK" "$folder/benchmark_model"
adb push "$model" "$folder/model.tflite"
adb shell chmod 755 "$folder/benchmark_model"
adb shell "$folder/benchmark_model" --graph="$folder/model.tflite" --num_threads=1 --use_xnnpack=true \
    --warmup_runs=50 --num_runs=500 --report_peak_memory_footprint=true
