# Sourced by tools/test: runs pytest on several processes.
# shellcheck shell=bash

# run_tests PROCESSES ARG...: the files of TESTS are spread over so many processes, the longest first
# (tools/lab/rig/durations.py). Files and tests among the arguments are run in place of TESTS. Tests
# that measure time, or load the machine, are marked `alone` and run afterwards, by themselves,
# without the arguments in MEASURE.
TESTS=()
MEASURE=()
run_tests() {
    local processes=$1 together=0 alone=0 marked tests rest none=5 # pytest found no test
    shift
    separate "$@"
    [ ${#tests[@]} != 0 ] || tests=("${TESTS[@]}")
    mapfile -t marked < <(marked_alone "${tests[@]}")
    "$VENV/bin/pytest" "${tests[@]}" -n "$processes" --dist loadfile --no-loadscope-reorder \
        -m "not alone" "${MEASURE[@]}" "${rest[@]}" || together=$?
    if [ ${#marked[@]} = 0 ]; then
        alone=$none
    else
        "$VENV/bin/pytest" "${marked[@]}" -m alone "${rest[@]}" || alone=$?
    fi
    [ $together != $none ] || together=$alone
    [ $alone != $none ] || alone=$together
    [ $together = 0 ] || return $together
    return $alone
}

# separate ARG...: `tests` gets the files and the tests (FILE::TEST) of them, `rest` the others.
separate() {
    local argument
    tests=() rest=()
    for argument; do
        case ${argument%%::*} in
            -*) rest+=("$argument") ;;
            *test_*.py)
                if [ -f "${argument%%::*}" ]; then tests+=("$argument"); else rest+=("$argument"); fi
                ;;
            *) rest+=("$argument") ;;
        esac
    done
}

# marked_alone TEST...: those of them, and the files in those that are directories, with the mark.
marked_alone() {
    local each
    for each; do
        if [ -d "$each" ]; then
            grep -rl --include='test_*.py' 'mark\.alone' "$each" || true
        elif grep -q 'mark\.alone' "${each%%::*}"; then
            printf '%s\n' "$each"
        fi
    done
}
