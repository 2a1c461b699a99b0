#!/bin/sh
# A double of podman and of docker, by which of them it is called, in a node whose kubelet uses containerd. It answers as
# podman 4.3 and Docker 20.10 do, and the images are the kubelet's. "/run/loaded" is what it was given.
program=${0##*/}
fail() { echo "Error: $1" >&2; exit 125; }
ids() { crictl images -q | sort -u; }

case "$*" in
  "load -q")
    archive=$(mktemp)
    trap 'rm -f "$archive"' EXIT
    cat >"$archive"
    manifest=$(tar --extract --to-stdout --file "$archive" manifest.json 2>/dev/null) ||
      fail "payload does not match any of the supported image formats"
    names=$(echo "$manifest" | jq -r '.[].RepoTags[]')
    for name in $names; do
      case ${name%%/*} in
        "$name") fail "podman would call it localhost/$name" ;;
        *.* | *:* | localhost) ;;
        *) fail "podman would call it localhost/$name" ;;
      esac
    done
    snapshotter=$(sed -n 's/^ *snapshotter *= *"\(.*\)".*/\1/p' /etc/containerd/config.toml | head -n 1)
    ctr -n k8s.io images import --snapshotter "${snapshotter:-overlayfs}" "$archive" >&2 || exit 125
    for name in $names; do
      # crictl knows it a moment later.
      timeout 60 sh -c "until crictl inspecti '$name' >/dev/null 2>&1; do sleep 0.1; done" || fail "$name did not come"
      echo "$program $name" >>/run/loaded
      echo "Loaded image: $name"
    done
    ;;
  "images --no-trunc --format {{.Repository}}:{{.Tag}} {{.ID}}")
    listed=$(crictl images -o json | jq -r '.images[] | .id as $id | .repoTags[] | "\(.) \($id)"')
    # Docker leaves out what everybody knows.
    [ "$program" = podman ] || listed=$(echo "$listed" | sed 's#^docker.io/##; s#^library/##')
    echo "$listed"
    ;;
  "images -q") ids ;;
  "image inspect "*)
    shift 2
    for id in $(ids); do crictl inspecti -o json "$id"; done | jq --slurp 'map({Id: .status.id, Created: .info.imageSpec.created})'
    ;;
  "rmi "*)
    shift
    ctr -n k8s.io images rm "$@" >/dev/null
    ;;
  *) fail "the double of $program knows no $*" ;;
esac
