# What scripts/limits, scripts/peers and scripts/growth share: installing what is measured beside Lumina, and
# building what is measured. To be sourced, from the top of the sources, with `task` set to the script's name.
# What could not be installed is said, and the measurement goes on without it.

. scripts/packages.sh

target=$(realpath -m "${CARGO_TARGET_DIR:-target}")
# What is installed or built for this, for all three scripts.
peers=$target/peers
mkdir -p "$peers"
# Nothing is left beside the sources.
export PYTHONDONTWRITEBYTECODE=1

# server NAME PACKAGE: prints where that Debian server is, if there is one.
server() {
    # Servers are in a folder that not everybody searches.
    local PATH=$PATH:/usr/sbin
    if ! command -v "$1"; then
        install_packages "$1" "$2" || { note "goes on without $1"; return 0; }
        disable_services "$2"
        command -v "$1" || true
    fi
}

# disable_services PACKAGE: a server that was installed to be measured is not to run when the machine next
# starts.
disable_services() {
    local unit sudo=()
    [ "$(id -u)" = 0 ] || sudo=(sudo -n)
    for unit in $(dpkg -L "$1" | sed -n 's,^.*/lib/systemd/system/\([^/@]*\)\.service$,\1,p'); do
        # Neither needs a systemd that runs; Debian always has the second.
        if "${sudo[@]}" systemctl disable "$unit" >/dev/null 2>&1 ||
            "${sudo[@]}" update-rc.d "$unit" disable >/dev/null 2>&1; then
            note "the service $unit is disabled: it was installed only to be measured"
        else
            note "the service $unit could not be disabled: it may start with the machine"
        fi
    done
}

# What Modbus requests are held against in C. Prints where the program is, if it could be built.
libmodbus_server() {
    local program=$peers/libmodbus_server flags
    pkg-config --exists libmodbus 2>/dev/null || install_packages libmodbus libmodbus-dev pkg-config || true
    flags=$(pkg-config --cflags --libs libmodbus 2>/dev/null) ||
        { note 'goes on without libmodbus'; return 0; }
    # The flags are words of their own, and libraries come behind what needs them.
    # shellcheck disable=SC2086
    cc -O2 -Wall -Wextra -o "$program" benches/peers/libmodbus_server.c $flags >&2 || {
        note 'the server on libmodbus could not be built: goes on without'
        return 0
    }
    echo "$program"
}

# And in Python, of the version that the interoperation is tried with. Prints the interpreter that has it, if
# there is one.
pymodbus_python() {
    local version
    version=$(sed -n 's/^pymodbus==\([0-9.]*\).*/\1/p' scripts/interop.d/requirements.txt)
    venv "pymodbus-$version" pymodbus "pymodbus==$version"
}

# Prints the interpreter that draws the charts, if there is one.
charts_python() {
    # Nothing comes along in a version that nobody named.
    venv "charts-$(cksum <scripts/charts.txt | tr ' ' -)" matplotlib --no-deps -r scripts/charts.txt
}

# venv NAME MODULE ARGUMENT…: an environment of Python into which pip has installed that. Prints its
# interpreter, if the module is there.
venv() {
    local python=$peers/$1/bin/python module=$2
    shift 2
    if ! "$python" -c "import $module" 2>/dev/null; then
        have 'venv of Python' python3-venv python3 -c 'import ensurepip, venv' ||
            { note "goes on without $module"; return 0; }
        note "installing $module"
        {
            python3 -m venv --clear "${python%/bin/python}" &&
                "$python" -m pip install --disable-pip-version-check --retries 1 "$@"
        } >/dev/null 2>&1 || {
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
    # The benches come first: cargo builds the server along with them, to the same place but not quite with
    # the release profile (no bench may abort on panic), and what is measured must be what is shipped.
    bare=$(build bare_echo bench --no-run --bench bare_echo --bench limits)
    limits=$(build limits bench --no-run --bench bare_echo --bench limits)
    lumina=$(build lumina build --release --bin lumina)
    for program in "$bare" "$limits" "$lumina"; do
        [ -x "$program" ] || die "cargo did not say where it put a program: '$program'"
    done
    arguments=(--lumina "$lumina" --bare "$bare")
}

# given OPTION PROGRAM: an argument of the program that measures, if there is such a program.
given() { [ -z "$2" ] || arguments+=("$1" "$2"); }

# measure ARGUMENT…: runs the program that measures. A signal to this script ends it too, and it its servers.
measure() {
    "$limits" "$@" &
    measuring=$!
    trap 'kill "$measuring" 2>/dev/null; wait "$measuring" || true; exit 1' HUP INT TERM
    wait "$measuring"
    trap - HUP INT TERM
}

# report PROGRAM FOLDER FILE ARGUMENT…: makes tables of the measurements in the folder, which also go to the
# file there, and charts, where that is possible.
report() {
    local program=$1 folder=$2 file=$3 python
    shift 3
    python=$(charts_python)
    # Tables need no more than Python.
    [ -n "$python" ] || python=$(command -v python3) ||
        { note "no Python, so no tables: the measurements are in $folder"; return 0; }
    "$python" "$program" "$folder" "$(machine), \`scripts/$task${1:+ $1}\`" | tee "$folder/$file"
}

# The machine and the day, as the README says them.
machine() {
    local model
    model=$(sed -n 's/^model name[[:space:]]*: //p' /proc/cpuinfo | head -n 1)
    printf '%s cores (%s), Linux %s, %s' "$(nproc)" "${model:-$(uname -m)}" "$(uname -r | cut -d- -f1)" \
        "$(date +%Y-%m-%d)"
}
