#!/usr/bin/env bash
# Build an image: bash scripts/docker/build.sh cpu|cuda [ARGUMENT of docker build...]
#
# The base is pinned by its digest in base.digest. Where that file is missing, the digest of BASE is looked up and
# written there, so that every later build starts from the same bytes; remove it to take a newer base.
set -euo pipefail

BASE=docker.io/library/python:3.12-slim-bookworm
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
kind=${1:-}
case "$kind" in
    cpu | cuda) shift ;;
    *)
        echo "build.sh: expected cpu or cuda, got '$kind'" >&2
        exit 2
        ;;
esac
pinned="$here/base.digest"
if [ ! -f "$pinned" ]; then
    docker buildx imagetools inspect "$BASE" --format '{{.Manifest.Digest}}' >"$pinned.part"
    mv "$pinned.part" "$pinned"
fi
digest=$(<"$pinned")
if ! [[ "$digest" =~ ^sha256:[0-9a-f]{64}$ ]]; then
    echo "build.sh: $pinned: expected sha256: and 64 digits, got '$digest'; remove the file" >&2
    exit 1
fi
exec docker build --file "$here/$kind.Dockerfile" --build-arg "BASE_DIGEST=$digest" --tag "scenegen:$kind" "$@" "$here/../.."
