# What the two minikube scripts share; sourced, not run.
# shellcheck shell=bash
# shellcheck source=lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
cd "$root"

profile=${MINIKUBE_PROFILE:-minikube}

find_minikube() {
  command -v minikube >/dev/null ||
    die "minikube is not installed: https://minikube.sigs.k8s.io/docs/start says how; or use kind, with scripts/start"
  [ "$(id -u)" != 0 ] || export MINIKUBE_FORCE=true # or it refuses to work as root
}

# Prints how the profile is: missing, running, unknown (it runs, but kubectl does not know it), paused or stopped (which
# takes in what is half started). What "profile list" says of it can be old; "status" looks.
profile_state() {
  local answer code=0
  answer=$(minikube status --profile "$profile" --output json 2>/dev/null) || code=$?
  [ "$code" != 85 ] || { echo missing; return; }
  # One node answers with an object, several with an array.
  case $(jq --raw-output '[.] | flatten[0] | [.Host, .Kubelet, .APIServer, .Kubeconfig] | join(" ")' <<<"$answer") in
    "Running Running Running Configured") echo running ;;
    "Running Running Running "*) echo unknown ;;
    *Paused*) echo paused ;;
    *) echo stopped ;;
  esac
}

# Makes the profile's context kubectl's current one, which is where llmdev works.
use_profile() {
  case $1 in
    paused) minikube unpause --profile "$profile" ;;
    unknown) minikube update-context --profile "$profile" ;;
  esac
  kubectl config use-context "$profile"
}
