# How scripts install what they need: as Debian packages, where there is apt-get and the right to use it. To
# be sourced, with `task` set to the script's name.
#
# Nothing ends because something could not be installed: a line says why, and the caller says what it leaves
# out.

note() { printf '%s: %s\n' "$task" "$*" >&2; }
die() { note "$@"; exit 1; }

# install_packages WHAT PACKAGE…: installs them; whether it could. Servers among them are not started.
install_packages() {
    local what=$1 log status=0 sudo=()
    shift
    command -v apt-get >/dev/null || { note "no $what, and no apt-get to install it"; return 1; }
    if [ "$(id -u)" != 0 ]; then
        { command -v sudo >/dev/null && sudo -n true 2>/dev/null; } ||
            { note "no $what, and no right to install $*"; return 1; }
        sudo=(sudo -n)
    fi
    note "installing $*"
    log=$(mktemp)
    (
        # Debian asks this program whether a service may be started; 101 is no.
        policy=/usr/sbin/policy-rc.d
        if [ ! -e $policy ]; then
            trap '"${sudo[@]}" rm -f $policy' EXIT
            printf '#!/bin/sh\nexit 101\n' | "${sudo[@]}" tee $policy
            "${sudo[@]}" chmod 755 $policy
        fi
        # What is known already may do.
        "${sudo[@]}" apt-get update --quiet || true
        "${sudo[@]}" env DEBIAN_FRONTEND=noninteractive \
            apt-get install --quiet --yes --no-install-recommends "$@"
    ) >"$log" 2>&1 || { status=1; tail -n 5 "$log" >&2; note "no $what: $* could not be installed"; }
    rm -f "$log"
    return $status
}

# have WHAT PACKAGE TEST…: whether the test succeeds, if need be after the package was installed.
have() {
    local what=$1 package=$2
    shift 2
    "$@" >/dev/null 2>&1 && return
    install_packages "$what" "$package" || return
    "$@" >/dev/null 2>&1 || { note "$package is installed, but there is still no $what"; return 1; }
}
