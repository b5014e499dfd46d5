#!/usr/bin/env bash
# Make a base image for the Dockerfile without a registry: this machine's Debian release with python3-venv, and the
# certificates that this machine trusts. Needs root, debootstrap and docker; the engine is the one of DOCKER_HOST.
#
# Usage: make_base.sh NAME[:TAG]. The archive is kept in $RECONCILER_TEST_CACHE, else in the user's cache folder.
set -euo pipefail
name=${1:?usage: make_base.sh NAME[:TAG]}
docker=${DOCKER:-docker}
bundle=/etc/ssl/certs/ca-certificates.crt
cache=${RECONCILER_TEST_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/prefect-reconciler-tests}
path=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
PATH=$PATH:/usr/sbin:/sbin

codename=$(. /etc/os-release && echo "$VERSION_CODENAME")
archive=$cache/base-$codename-$(cat "$0" "$bundle" | sha256sum | cut -c1-12).tar

make_archive() {
    mkdir -p "$cache"
    work=$(mktemp -d -p "$cache")
    trap 'rm -rf --one-file-system "$work"' EXIT
    mirror=$(apt-get indextargets --format '$(REPO_URI) $(RELEASE) $(COMPONENT)' 'Created-By: Packages' |
        awk -v codename="$codename" '$2 == codename && $3 == "main" { print $1; exit }')
    [[ $mirror ]] || { echo "apt knows no mirror of $codename main" >&2; exit 1; }
    http_proxy=${http_proxy:-$(apt-config dump --format '%v' Acquire::http::Proxy)}
    export http_proxy DPKG_FORCE=unsafe-io # nobody needs this folder after a power cut
    debootstrap --variant=minbase --include=python3,python3-venv,ca-certificates "$codename" "$work/root" "$mirror"
    cp "$bundle" "$work/root$bundle"
    printf '[global]\ncert = %s\n' "$bundle" >"$work/root/etc/pip.conf" # pip would trust its own certificates only
    tar --create --file "$work/tar" --directory "$work/root" --numeric-owner \
        --exclude='./dev/*' --exclude='./var/cache/*' --exclude='./var/lib/apt/lists/*' --exclude='./var/log/*' \
        --exclude='./usr/share/doc/*' --exclude='./usr/share/man/*' --exclude='./usr/share/locale/*' .
    mv "$work/tar" "$archive"
}

[[ -e $archive ]] || make_archive >&2
"$docker" import --change "ENV PATH=$path" "$archive" "$name"
