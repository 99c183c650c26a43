#!/bin/sh
# Fails and names the packages that are installed in a version which the file of pins does not give.
set -eu
names() { sed -e 's/#.*//' "$1" | tr '[:upper:]_.' '[:lower:]--' | grep -v '^$' | sort -u; }
folder="$(mktemp -d)"
pip freeze --exclude demosift > "$folder/installed"
names "$1" > "$folder/pins"
if names "$folder/installed" | grep -vxFf "$folder/pins"; then
    echo "the packages above are not pinned; add them to requirements.txt of the project or of the image" >&2
    exit 1
fi
