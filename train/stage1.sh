#!/bin/sh
# train/stage1.sh MODEL DATA OUT [more words for `molmo2-ground train stage1`]
set -eu
model=$1 data=$2 out=$3
shift 3
exec molmo2-ground train stage1 "$data" --model "$model" --out "$out" --skip-bad "$@"
