#!/usr/bin/env bash
# Brings the stack up on minikube: finds the profile, or makes it with the 8 CPUs, 16 GB of memory and 40 GB of disk that
# are recommended, as far as the machine has them, builds llmdev and runs "llmdev up". Can be run again at any time.
#
#   minikube-start.sh [--profile NAME] [--force] [-- ARGUMENTS FOR LLMDEV UP]
#
# --force also makes a profile where there is less than the 4 CPUs, 8 GB and 20 GB that the stack needs.
# shellcheck source=minikube-lib.sh
source "$(dirname "$0")/minikube-lib.sh"

force=''
while [ $# -gt 0 ]; do
  case $1 in
    --profile) profile=${2:?"name the profile"} && shift ;;
    --force) force=1 ;;
    --) shift && break ;;
    *) die "usage: minikube-start.sh [--profile NAME] [--force] [-- ARGUMENTS FOR LLMDEV UP]" ;;
  esac
  shift
done

find_minikube
"$scripts/setup"

# Sets a variable, which holds what the machine has, to what to take of it.
share() {
  local -n has=$1
  local needed=$2 recommended=$3 what=$4
  [ "$has" -ge "$needed" ] || [ -n "$force" ] ||
    die "Docker has $has $what here, and the stack needs $needed; \"--force\" tries all the same"
  [ "$has" -le "$recommended" ] || has=$recommended
}

start() {
  minikube start --profile "$profile" "$@" ||
    die "minikube could not start the profile $profile; \"minikube logs --profile $profile\" says more"
}

create() {
  local cpus memory folder disk
  read -r cpus memory folder < <(docker info --format '{{.NCPU}} {{.MemTotal}} {{.DockerRootDir}}')
  memory=$((memory / 1024 / 1024))
  [ -d "$folder" ] || folder=$HOME # the daemon may be in a virtual machine
  disk=$(df -Pk "$folder" | awk 'END { print int($4 / 1024 / 1024) }')
  share cpus 4 8 "CPUs"
  share memory 7600 16384 "MiB of memory" # of 8 GB the kernel keeps some
  share disk 20 40 "GB of disk"
  say "making the profile $profile with $cpus CPUs, $memory MiB of memory and $disk GB of disk"
  start --driver docker --cpus "$cpus" --memory "${memory}mb" --disk-size "${disk}gb"
}

state=$(profile_state)
case $state in
  missing) create ;;
  stopped) say "starting the profile $profile" && start ;;
  # "minikube start" on a profile that runs would restart every container in it.
  *) say "the profile $profile is there already ($state)" ;;
esac
use_profile "$state"
build_llmdev
"$llmdev" up "$@" || exit # it has said why
next_steps
say "scripts/minikube-cleanup.sh takes it all away"
