#!/usr/bin/env bash
# Build a real kube-apiserver from Debian's source package and print its path. Once: it is kept in
# $RECONCILER_TEST_CACHE, else in the user's cache folder. About 8 minutes of CPU time and 2 GB in $TMPDIR, cold.
# With --print-path: say where it is kept or would be, and build nothing.
#
# Debian 12 carries the whole source of Kubernetes 1.20.2 (later releases only that of kubectl). Needs $packages.
set -euo pipefail
packages="dpkg-dev golang-1.19-go golang-github-modern-go-reflect2-dev make rsync"
reflect2=/usr/share/gocode/src/github.com/modern-go/reflect2
go=/usr/lib/go-1.19/bin
cache=${RECONCILER_TEST_CACHE:-${XDG_CACHE_HOME:-~/.cache}/prefect-reconciler-tests}

fetch() { # the source, without touching this machine's list of package sources
    local own=(-o "Dir::State::lists=$PWD/lists" -o "Dir::Etc::sourceparts=$PWD/none" -o "Dir::Etc::sourcelist=$PWD/sources.list"
        -o "APT::Sandbox::User=$(id -un)")
    apt-get indextargets --format 'deb-src $(REPO_URI) $(RELEASE) $(COMPONENT)' \
        'Created-By: Packages' 'Component: main' | grep -E ' bookworm(-security|-updates)? ' | sort -u >sources.list
    mkdir -p lists/partial none
    apt-get -qq "${own[@]}" update
    apt-get -qq "${own[@]}" source --download-only kubernetes
    dpkg-source --extract kubernetes_1.20.*.dsc tree
}

build() {
    # The vendored one (1.0.1) ends every POST of a Job in a nil dereference when built by Go 1.18 or later.
    rm -rf tree/vendor/github.com/modern-go/reflect2
    cp -rL "$reflect2" tree/vendor/github.com/modern-go/reflect2
    mkdir -p go/src/k8s.io home
    ln -s "$PWD/tree" go/src/k8s.io/kubernetes
    cat >version <<-END
		KUBE_GIT_COMMIT='0000000000000000000000000000000000000000'
		KUBE_GIT_TREE_STATE='archive'
		KUBE_GIT_VERSION='v1.20.2'
		KUBE_GIT_MAJOR='1'
		KUBE_GIT_MINOR='20'
	END
    export HOME=$PWD/home GOPATH=$PWD/go GOCACHE=$PWD/gocache GO111MODULE=off CGO_ENABLED=0 PATH=$go:$PATH
    export KUBE_GIT_VERSION_FILE=$PWD/version
    export GOFLAGS=-tags=providerless # without the clients of five clouds
    cd go/src/k8s.io/kubernetes
    # The package carries what is generated, the OpenAPI definitions apart.
    make gen_openapi
    hack/make-rules/build.sh cmd/kube-apiserver
}

recipe=$(declare -f fetch build | sha256sum)
binary=$cache/kube-apiserver-${recipe:0:12}
if [[ ${1-} != --print-path && ! -x $binary ]]; then
    for needed in "$go/go" "$reflect2" "$(command -v dpkg-source)" "$(command -v make)" "$(command -v rsync)"; do
        [[ -e $needed ]] || { echo "$0: install $packages (Debian 12)" >&2; exit 1; }
    done
    mkdir -p "$cache"
    work=$(mktemp -d)
    trap 'chmod -R u+w "$work"; rm -rf "$work"' EXIT
    cd "$work"
    fetch >&2
    build >&2
    cp "$work"/tree/_output/local/bin/linux/*/kube-apiserver "$binary.new"
    mv "$binary.new" "$binary"
fi
echo "$binary"
