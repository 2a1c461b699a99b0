#!/usr/bin/env bash
# Takes the stack off minikube, with "llmdev down", and with --delete the profile as well. Without --delete it asks,
# if there is somebody to ask.
#
#   minikube-cleanup.sh [--profile NAME] [--delete]
# shellcheck source=minikube-lib.sh
source "$(dirname "$0")/minikube-lib.sh"

delete=''
while [ $# -gt 0 ]; do
  case $1 in
    --profile) profile=${2:?"name the profile"} && shift ;;
    --delete) delete=1 ;;
    *) die "usage: minikube-cleanup.sh [--profile NAME] [--delete]" ;;
  esac
  shift
done

find_minikube
state=$(profile_state)
case $state in
  missing)
    say "there is no profile $profile"
    exit 0
    ;;
  stopped) say "the profile $profile does not run, so that the stack stays in it as it is" ;;
  *)
    use_profile "$state"
    build_llmdev
    "$llmdev" down
    ;;
esac

if [ -z "$delete" ] && [ -t 0 ]; then
  read -rp "Delete the profile $profile, with all that is in it? [y/N] " answer
  [[ $answer != [yY]* ]] || delete=1
fi
if [ -n "$delete" ]; then
  minikube delete --profile "$profile"
else
  say "the profile $profile stays; \"--delete\" takes it away"
fi
