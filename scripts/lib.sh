# Settings and helpers shared by the scripts; sourced, not run.
# shellcheck shell=bash
# shellcheck disable=SC2034 # the settings are for the scripts

who=$(basename "$0")
# shellcheck source=testbed/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/testbed/lib.sh"

root=$(cd "$testbed/../.." && pwd)
scripts=$root/scripts
user_cache=${XDG_CACHE_HOME:-$HOME/.cache}/llmdev
mkdir -p "$user_cache"

# Whether Docker can pull images here, tried with a small one that is of use anyway. The answer holds for an hour.
registry_reachable() {
  local answer=$user_cache/registry-reachable
  if [ -z "$(find "$answer" -mmin -60 2>/dev/null)" ]; then
    if timeout 15 docker pull --quiet busybox:1 >/dev/null 2>&1; then echo yes; else echo no; fi >"$answer"
  fi
  [ "$(cat "$answer")" = yes ]
}

# Runs a command in the background, with its output in a file; "await" waits for it, and fails if it failed.
in_background() {
  background_log=$user_cache/$who.background.log
  "$@" >"$background_log" 2>&1 </dev/null &
  background=$!
}

await() {
  [ ! -d "/proc/$background" ] || say "waiting for what runs in the background: $(tail -n 1 "$background_log")"
  wait "$background" && return
  tail -n 40 "$background_log" >&2
  say "this failed in the background; all of its output is in $background_log"
  return 1
}

# Compiles llmdev, where that is needed, and sets "llmdev" to the program. One that LLMDEV names is taken as it is.
build_llmdev() {
  llmdev=${LLMDEV:-${CARGO_TARGET_DIR:-$root/target}/release/llmdev}
  [ -n "${LLMDEV:-}" ] || timed cargo build --release --locked --manifest-path "$root/Cargo.toml"
}

next_steps() {
  cat <<END

What to try next:
  $llmdev status             how every service is
  $llmdev logs r2r -f        what one of them says
  $llmdev why r2r            what it waits for, when it is not ready
  $llmdev open react-client  the page, in a browser
  $llmdev down               take it all away
Edit a file of a service, and it is live in a moment.
END
}
