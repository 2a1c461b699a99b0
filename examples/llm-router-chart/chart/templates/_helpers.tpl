{{- define "llm-router.name" -}}
{{ default .Chart.Name .Values.nameOverride | trunc 40 | trimSuffix "-" }}
{{- end }}

{{- define "llm-router.fullname" -}}
{{- $name := include "llm-router.name" . -}}
{{- if .Values.fullnameOverride -}}
{{ .Values.fullnameOverride | trunc 40 | trimSuffix "-" }}
{{- else if contains $name .Release.Name -}}
{{ .Release.Name | trunc 40 | trimSuffix "-" }}
{{- else -}}
{{ printf "%s-%s" .Release.Name $name | trunc 40 | trimSuffix "-" }}
{{- end -}}
{{- end }}

{{- define "llm-router.selectorLabels" -}}
app.kubernetes.io/name: {{ include "llm-router.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "llm-router.labels" -}}
{{ include "llm-router.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/part-of: llm-router
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* An object's metadata: include "llm-router.metadata" (dict "root" $ "name" … "component" … "annotations" …). */}}
{{- define "llm-router.metadata" -}}
name: {{ .name }}
namespace: {{ .root.Release.Namespace }}
labels:
  {{- include "llm-router.labels" .root | nindent 2 }}
  {{- with .component }}
  app.kubernetes.io/component: {{ . }}
  {{- end }}
  {{- with .labels }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- with merge (dict) (default dict .annotations) .root.Values.commonAnnotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- define "llm-router.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{ default (include "llm-router.fullname" .) .Values.serviceAccount.name }}
{{- else -}}
{{ default "default" .Values.serviceAccount.name }}
{{- end -}}
{{- end }}

{{/* The Secret with the API keys; empty when there is none. */}}
{{- define "llm-router.secretName" -}}
{{- if or .Values.secrets.create .Values.secrets.externalSecret.enabled -}}
{{ include "llm-router.fullname" . }}-api-keys
{{- else -}}
{{ .Values.secrets.existingSecret }}
{{- end -}}
{{- end }}

{{/* Whether the model repository is a folder: then a volume is mounted. */}}
{{- define "llm-router.folder" -}}
{{- if hasPrefix "/" .Values.modelRepository.uri }}yes{{ end -}}
{{- end }}

{{- define "llm-router.claimName" -}}
{{ default (printf "%s-models" (include "llm-router.fullname" .)) .Values.modelRepository.volume.pvc.existingClaim }}
{{- end }}

{{/* Whether the models are on a claim. */}}
{{- define "llm-router.onClaim" -}}
{{- if and (include "llm-router.folder" .) (eq .Values.modelRepository.volume.type "pvc") }}yes{{ end -}}
{{- end }}

{{/* Which versions run, separated by blanks; "-" is the only one. */}}
{{- define "llm-router.colors" -}}
{{ if .Values.blueGreen.enabled }}blue green{{ else }}-{{ end }}
{{- end }}

{{/* A component's image: include "llm-router.image" (dict "root" $ "values" … "color" …); no colour: the active one's. */}}
{{- define "llm-router.image" -}}
{{- $tag := default .root.Chart.AppVersion .values.image.tag -}}
{{- if .root.Values.blueGreen.enabled -}}
{{- $tag = default $tag (get .root.Values.blueGreen.tags (default .root.Values.blueGreen.active .color)) -}}
{{- end -}}
{{ .values.image.repository }}:{{ $tag }}
{{- end }}

{{/* What the schema cannot say, because it is about several values at once. */}}
{{- define "llm-router.validate" -}}
{{- $secrets := .Values.secrets -}}
{{- if and $secrets.create $secrets.externalSecret.enabled -}}
{{- fail "secrets: either `create` or `externalSecret.enabled`, not both" -}}
{{- end -}}
{{- if and $secrets.create (not $secrets.values) -}}
{{- fail "secrets.create is for development and needs secrets.values: --set secrets.values.OPENAI_API_KEY=…" -}}
{{- end -}}
{{- if $secrets.externalSecret.enabled -}}
{{- $_ := required "secrets.externalSecret.secretStoreRef.name is needed" $secrets.externalSecret.secretStoreRef.name -}}
{{- $_ := required "secrets.externalSecret.key is needed" $secrets.externalSecret.key -}}
{{- end -}}
{{- $secret := include "llm-router.secretName" . -}}
{{- range $policy := .Values.policies -}}
{{- range $llm := $policy.llms -}}
{{- if and $llm.apiKeyEnv (not $secret) -}}
{{- fail (printf "policies: %s of %s wants the key %s, and there is no Secret: set secrets.existingSecret" $llm.model $policy.name $llm.apiKeyEnv) -}}
{{- end -}}
{{- if and $secrets.create $llm.apiKeyEnv (not (hasKey $secrets.values $llm.apiKeyEnv)) -}}
{{- fail (printf "secrets.values has no %s, which %s of %s wants" $llm.apiKeyEnv $llm.model $policy.name) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- $volume := .Values.modelRepository.volume -}}
{{- if include "llm-router.folder" . -}}
{{- if eq $volume.type "hostPath" -}}
{{- $_ := required "modelRepository.volume.hostPath.path is needed" $volume.hostPath.path -}}
{{- if not $volume.hostPath.acceptRisk -}}
{{- fail "modelRepository.volume.hostPath opens the node's files to the pod: say hostPath.acceptRisk=true if that is all right, or use pvc" -}}
{{- end -}}
{{- end -}}
{{- if eq $volume.type "nfs" -}}
{{- $_ := required "modelRepository.volume.nfs.server is needed" $volume.nfs.server -}}
{{- $_ := required "modelRepository.volume.nfs.path is needed" $volume.nfs.path -}}
{{- end -}}
{{- end -}}
{{- $backup := .Values.backup -}}
{{- if or $backup.snapshot.enabled $backup.schedule.enabled -}}
{{- if not (include "llm-router.onClaim" .) -}}
{{- fail "backup makes snapshots of a claim, and the models are on none: modelRepository.volume.type is pvc then" -}}
{{- end -}}
{{- end -}}
{{- if $backup.snapshotClass.create -}}
{{- $_ := required "backup.snapshotClass.driver is needed" $backup.snapshotClass.driver -}}
{{- $_ := required "backup.snapshotClass.name is needed" $backup.snapshotClass.name -}}
{{- end -}}
{{- if and .Values.ingress.enabled .Values.ingress.tls.enabled -}}
{{- $_ := required "ingress.tls.secretName is needed" .Values.ingress.tls.secretName -}}
{{- end -}}
{{- if and .Values.ingress.enabled (not .Values.app.enabled) (not .Values.ingress.api) -}}
{{- fail "ingress has nothing to lead to: app.enabled is false, and so is ingress.api" -}}
{{- end -}}
{{- end }}
