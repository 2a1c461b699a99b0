#!/bin/sh
# A double of minikube that answers as minikube 1.38 does. Beside it are the profile's "name", its "state" (missing,
# running, several, unlisted, paused, half, stopped or silent, which is not to be found out), its "kubeconfig", its "node" where there is a container to be
# started and stopped, its "engine" (what docker-env answers) and, where a start is to fail, what it then says ("fails").
# A start goes on when there is no "holds". "calls" is what was asked of it.
here=$(dirname "$0")
state=$(cat "$here/state")
name=$(cat "$here/name")
echo "$*" >>"$here/calls"

becomes() { printf %s "$1" >"$here/state"; }
event() { printf '{"specversion":"1.0","type":"io.k8s.sigs.minikube.%s","data":{%s}}\n' "$1" "$2"; }
missing() {
  event info "\"message\":\"Profile \\\"$name\\\" not found.\""
  event info "\"message\":\"To start a cluster, run: \\\"minikube start -p $name\\\"\""
  exit 85
}
machine() {
  printf '{"Name":"%s","Host":"%s","Kubelet":"%s","APIServer":"%s","Kubeconfig":"%s","Worker":false}' "$name" "$@"
}
with_node() { [ ! -e "$here/node" ] || "$@" "$(cat "$here/node")" >/dev/null; }
until_it_answers() { timeout 120 sh -c "until docker exec $1 kubectl --kubeconfig /etc/kubernetes/admin.conf get --raw /readyz; do sleep 0.2; done" 2>&1; }
# Another container may have got the address of one that was stopped.
follow_address() {
  address=$(docker inspect --format '{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}' "$1")
  sed -i "s#https://[0-9.]*:6443#https://$address:6443#" "$here/kubeconfig"
}

becomes_current() { sed -i "1s/{/{\"current-context\":\"$name\",/" "$KUBECONFIG"; }

[ "$1 $2" != "unpause --all-namespaces" ] || set -- "$1" "$3" "$4"
if [ "$2 $3" != "--profile $name" ]; then
  [ "$1" = delete ] || missing
  exit 0
fi
case $1 in
  status)
    case $state in
      missing) missing ;;
      running) machine Running Running Running Configured ;;
      several)
        printf '[%s,{"Name":"%s-m02","Host":"Running","Kubelet":"Running","APIServer":"Irrelevant","Kubeconfig":"Irrelevant","Worker":true}]' \
          "$(machine Running Running Running Configured)" "$name"
        ;;
      unlisted) machine Running Running Running Misconfigured; exit 6 ;;
      paused) machine Running Stopped Paused Configured; exit 2 ;;
      half) machine Running Stopped Stopped Configured; exit 2 ;;
      stopped) machine Stopped Stopped Stopped Stopped; exit 7 ;;
      silent) exec sleep 600 ;;
    esac
    ;;
  start)
    event step '"currentstep":"0","message":"minikube v1.38.1 on Debian","name":"Initial Minikube Setup","totalsteps":"19"'
    event step '"currentstep":"11","message":"Preparing Kubernetes v1.36.3 ...","name":"Preparing Kubernetes","totalsteps":"19"'
    echo 'W1121 10:00:00 no JSON' >&2
    while [ -e "$here/holds" ]; do sleep 0.1; done
    if [ -e "$here/fails" ]; then
      cat "$here/fails"
      becomes half
      exit 80
    fi
    event step '"currentstep":"11","message":"Preparing Kubernetes v1.36.3 ...","name":"Preparing Kubernetes","totalsteps":"19"'
    with_node docker start
    with_node follow_address
    with_node until_it_answers
    cp "$here/kubeconfig" "$KUBECONFIG"
    # One that was stopped is taken into the kubeconfig anew, and that does not heed the wish.
    case "$state $*" in missing*--keep-context*) ;; *) becomes_current ;; esac
    becomes running
    ;;
  stop)
    with_node docker stop
    : >"$KUBECONFIG"
    becomes stopped
    ;;
  unpause)
    cp "$here/kubeconfig" "$KUBECONFIG"
    becomes running
    ;;
  update-context)
    # It marks the cluster as its own, and not the context.
    sed 's/,"extensions":\[[^]]*context_info[^]]*\]//' "$here/kubeconfig" >"$KUBECONFIG"
    becomes_current
    becomes running
    ;;
  docker-env)
    [ "$4 $5 $6 $7" = "--shell none --output json" ] || { echo 'export DOCKER_HOST="…"'; exit 0; }
    case $state in
      running) cat "$here/engine" ;;
      several) echo "false exit code 81"; exit 81 ;;
      *) echo "false exit code 83"; exit 83 ;;
    esac
    ;;
  delete)
    [ ! -e "$here/undeletable" ] || exit 0
    with_node docker rm --force --volumes
    : >"$KUBECONFIG"
    becomes missing
    ;;
  *)
    echo "the double of minikube knows no $1" >&2
    exit 64
    ;;
esac
