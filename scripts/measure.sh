# What scripts/limits, scripts/peers and scripts/growth share: installing what is measured beside Lumina, and
# building what is measured. To be sourced, from the top of the sources, with `task` set to the script's name.
#
# Nothing here fails because something could not be installed: it is said, and the measurement goes on without it.

note() { printf '%s: %s\n' "$task" "$*" >&2; }

target=$(realpath -m "${CARGO_TARGET_DIR:-target}")
# What is installed or built for this, for all three scripts.
peers=$target/peers
mkdir -p "$peers"
# Nothing is left beside the sources.
export PYTHONDONTWRITEBYTECODE=1

# add WHAT PACKAGE…: installs Debian packages. Servers among them are not started as services.
add() {
    local what=$1 root=()
    shift
    if ! command -v apt-get > /dev/null; then
        note "no $what, and no apt-get to install it: goes on without"
        return
    fi
    if [ "$(id -u)" != 0 ]; then
        if ! { command -v sudo > /dev/null && sudo -n true 2> /dev/null; }; then
            note "no $what, and no right to install it: goes on without"
            return
        fi
        root=(sudo -n)
    fi
    note "installing $what"
    (
        # Debian asks this program whether a service may be started; 101 is no.
        policy=/usr/sbin/policy-rc.d
        if [ ! -e $policy ]; then
            trap '"${root[@]}" rm -f $policy' EXIT
            printf '#!/bin/sh\nexit 101\n' | "${root[@]}" tee $policy
            "${root[@]}" chmod 755 $policy
        fi
        "${root[@]}" apt-get update &&
            "${root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends "$@"
    ) > /dev/null 2>&1 || note "$what could not be installed: goes on without"
}

# server NAME PACKAGE: prints where that Debian server is, if there is one.
server() {
    # Servers are in a folder that not everybody searches.
    local PATH=$PATH:/usr/sbin
    command -v "$1" > /dev/null || add "$1" "$2"
    command -v "$1" || true
}

# What Modbus requests are held against in C. Prints where the program is, if it could be built.
libmodbus_server() {
    local program=$peers/libmodbus_server flags
    pkg-config --exists libmodbus 2> /dev/null || add libmodbus libmodbus-dev pkg-config
    flags=$(pkg-config --cflags --libs libmodbus 2> /dev/null) || return 0
    # The flags are words of their own, and libraries come behind what needs them.
    # shellcheck disable=SC2086
    cc -O2 -Wall -Wextra -o "$program" benches/peers/libmodbus_server.c $flags >&2 || {
        note 'the server on libmodbus could not be built: goes on without'
        return 0
    }
    echo "$program"
}

# And in Python, of the version that the interoperation is tried with. Prints the interpreter that has it, if there
# is one.
pymodbus_python() {
    local version
    version=$(sed -n 's/^pymodbus==\([0-9.]*\).*/\1/p' scripts/interop.d/requirements.txt)
    venv "pymodbus-$version" pymodbus "pymodbus==$version"
}

# Prints the interpreter that draws the charts, if there is one.
charts_python() {
    # Nothing comes along in a version that nobody named.
    venv "charts-$(cksum < scripts/charts.txt | tr ' ' -)" matplotlib --no-deps -r scripts/charts.txt
}

# venv NAME MODULE ARGUMENT…: an environment of Python into which pip has installed that. Prints its interpreter, if
# the module is there.
venv() {
    local python=$peers/$1/bin/python module=$2
    shift 2
    if ! "$python" -c "import $module" 2> /dev/null; then
        python3 -c 'import ensurepip, venv' 2> /dev/null || add 'venv of Python' python3-venv
        note "installing $module"
        {
            python3 -m venv --clear "${python%/bin/python}" &&
                "$python" -m pip install --disable-pip-version-check --retries 1 "$@"
        } > /dev/null 2>&1 || {
            note "$module could not be installed: goes on without"
            return 0
        }
    fi
    echo "$python"
}

# build NAME ARGUMENT…: builds with `cargo ARGUMENT…` and prints the path of the executable of that target.
build() {
    local name=$1
    shift
    cargo "$@" --locked --message-format=json-render-diagnostics |
        sed -n 's/^{"reason":"compiler-artifact".*"name":"'"$name"'".*"executable":"\([^"]*\)".*/\1/p' |
        tail -n 1
}

# Sets bare, limits and lumina: the bare echo, the program that measures, and the server.
build_all() {
    local program
    # The benches come first: cargo builds the server along with them, to the same place but not quite with the
    # release profile (no bench may abort on panic), and the server that is measured must be the one that is shipped.
    bare=$(build bare_echo bench --no-run --bench bare_echo --bench limits)
    limits=$(build limits bench --no-run --bench bare_echo --bench limits)
    lumina=$(build lumina build --release --bin lumina)
    for program in "$bare" "$limits" "$lumina"; do
        [ -x "$program" ] || { note "cargo did not say where it put a program: '$program'"; exit 1; }
    done
    arguments=(--lumina "$lumina" --bare "$bare")
}

# given OPTION PROGRAM: an argument of the program that measures, if there is such a program.
given() { [ -z "$2" ] || arguments+=("$1" "$2"); }

# The machine and the day, as the README says them.
machine() {
    local model
    model=$(sed -n 's/^model name[[:space:]]*: //p' /proc/cpuinfo | head -n 1)
    printf '%s cores (%s), Linux %s, %s' "$(nproc)" "${model:-$(uname -m)}" "$(uname -r | cut -d- -f1)" \
        "$(date +%Y-%m-%d)"
}
