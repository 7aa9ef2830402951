#!/bin/sh
# Install unettile and all that it needs into a folder, on Debian 12 or a release like it. Containers are built by it.
#
#   packaging/install.sh /opt/unettile
#
# TORCH_INDEX names where pip finds torch, and so for which processor: https://download.pytorch.org/whl/cpu, …/cu128.
# Empty: from where everything else comes.
set -eu
source=$(cd "$(dirname "$0")/.." && pwd)
folder=$1

export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
apt-get install -qq -y --no-install-recommends ca-certificates python3 python3-venv >/dev/null
rm -rf /var/lib/apt/lists/*

python3 -m venv "$folder"
torch=$(sed -n 's/^torch==//p' "$source/constraints.txt")
"$folder/bin/pip" install -q --no-cache-dir ${TORCH_INDEX:+--index-url "$TORCH_INDEX"} "torch==$torch"
sed '/^torch==/d' "$source/constraints.txt" >"$folder/constraints.txt"  # an index of its own adds +cpu to the version
"$folder/bin/pip" install -q --no-cache-dir -c "$folder/constraints.txt" "$source"

# Segments an image before it is used: what cannot work must not be delivered, and compiled loops are kept beside the
# package, where a container that is read-only later finds them.
tried=$(mktemp -d)
"$folder/bin/unettile" segment "$source/sample_data/nuclei.tif" -o "$tried/mask.tif" --quiet
rm -r "$tried"
