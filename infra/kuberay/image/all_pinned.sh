#!/bin/sh
# Fails and names the packages that are installed in a version which the file of pins does not give.
set -eu
names() { sed -e 's/#.*//' "$1" | tr '[:upper:]_.' '[:lower:]--' | grep -v '^$' | sort -u; }
pip freeze --exclude demosift > /tmp/installed.txt
names "$1" > /tmp/pins.txt
if names /tmp/installed.txt | grep -vxFf /tmp/pins.txt; then
    echo "the packages above are not pinned; add them to requirements.txt of the project or of the image" >&2
    exit 1
fi
