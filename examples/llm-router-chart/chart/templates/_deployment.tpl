{{/*
The Deployment of a component, or of its two colours. A dict of: root, component, values (the component's), environment
(its own variables, a list), and as text, where it has them: args, envFrom, initContainers, volumeMounts, volumes,
podAnnotations.
*/}}
{{- define "llm-router.deployment" -}}
{{- $root := .root -}}
{{- $component := .component -}}
{{- $values := .values -}}
{{- $context := . -}}
{{- range $color := splitList " " (include "llm-router.colors" $root) }}
{{- $name := printf "%s-%s" (include "llm-router.fullname" $root) $component }}
{{- if ne $color "-" }}
{{- $name = printf "%s-%s" $name $color }}
{{- end }}
{{- $image := include "llm-router.image" (dict "root" $root "values" $values "color" $color) }}
---
apiVersion: apps/v1
kind: Deployment
metadata:
  {{- include "llm-router.metadata" (dict "root" $root "name" $name "component" $component) | nindent 2 }}
spec:
  replicas: {{ $values.replicas }}
  strategy:
    {{- toYaml $values.strategy | nindent 4 }}
  selector:
    matchLabels:
      {{- include "llm-router.podLabels" (dict "root" $root "component" $component "color" $color) | nindent 6 }}
  template:
    metadata:
      labels:
        {{- include "llm-router.labels" $root | nindent 8 }}
        app.kubernetes.io/component: {{ $component }}
        {{- if ne $color "-" }}
        llm-router/color: {{ $color }}
        {{- end }}
        {{- with $values.podLabels }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      {{- $annotations := merge (dict) $values.podAnnotations $root.Values.logging.annotations (default dict $context.podAnnotations) }}
      {{- if and $root.Values.monitoring.scrapeAnnotations $context.metricsPort }}
      {{- $annotations = merge $annotations (dict "prometheus.io/scrape" "true" "prometheus.io/path" "/metrics" "prometheus.io/port" (toString $context.metricsPort)) }}
      {{- end }}
      {{- with $annotations }}
      annotations:
        {{- toYaml . | nindent 8 }}
      {{- end }}
    spec:
      serviceAccountName: {{ include "llm-router.serviceAccountName" $root }}
      automountServiceAccountToken: {{ $root.Values.serviceAccount.automountToken }}
      enableServiceLinks: false
      terminationGracePeriodSeconds: {{ $values.terminationGracePeriodSeconds }}
      {{- with $root.Values.imagePullSecrets }}
      imagePullSecrets:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- with $values.priorityClassName }}
      priorityClassName: {{ . }}
      {{- end }}
      {{- with $values.runtimeClassName }}
      runtimeClassName: {{ . }}
      {{- end }}
      {{- with $values.schedulerName }}
      schedulerName: {{ . }}
      {{- end }}
      securityContext:
        {{- toYaml $values.podSecurityContext | nindent 8 }}
      {{- with $values.nodeSelector }}
      nodeSelector:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- with $values.tolerations }}
      tolerations:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- with $values.topologySpreadConstraints }}
      topologySpreadConstraints:
        {{- range . }}
        {{- $own := dict "labelSelector" (dict "matchLabels" (include "llm-router.podLabels" (dict "root" $root "component" $component "color" $color) | fromYaml)) }}
        - {{- toYaml (merge (dict) . $own) | nindent 10 }}
        {{- end }}
      {{- end }}
      {{- $affinity := deepCopy $values.affinity }}
      {{- if and (ne $values.antiAffinity "none") (not $affinity.podAntiAffinity) }}
      {{- $labels := dict "matchLabels" (include "llm-router.podLabels" (dict "root" $root "component" $component "color" $color) | fromYaml) }}
      {{- $term := dict "topologyKey" "kubernetes.io/hostname" "labelSelector" $labels }}
      {{- if eq $values.antiAffinity "hard" }}
      {{- $_ := set $affinity "podAntiAffinity" (dict "requiredDuringSchedulingIgnoredDuringExecution" (list $term)) }}
      {{- else }}
      {{- $_ := set $affinity "podAntiAffinity" (dict "preferredDuringSchedulingIgnoredDuringExecution" (list (dict "weight" 100 "podAffinityTerm" $term))) }}
      {{- end }}
      {{- end }}
      {{- with $affinity }}
      affinity:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- with $context.initContainers }}
      initContainers:
        {{- . | replace "<image>" $image | nindent 8 }}
      {{- end }}
      containers:
        - name: {{ $component }}
          image: {{ $image | quote }}
          imagePullPolicy: {{ $values.image.pullPolicy }}
          {{- with concat (default list $context.args) $values.args }}
          args:
            {{- toYaml . | nindent 12 }}
          {{- end }}
          {{- with $context.envFrom }}
          envFrom:
            {{- . | nindent 12 }}
          {{- end }}
          env:
            - { name: LOG_LEVEL, value: {{ $root.Values.logging.level }} }
            - { name: LOG_FORMAT, value: {{ $root.Values.logging.format }} }
            {{- with concat (default list $context.environment) $values.env }}
            {{- toYaml . | nindent 12 }}
            {{- end }}
          ports:
            {{- range $port, $number := $values.ports }}
            - { name: {{ $port }}, containerPort: {{ $number }} }
            {{- end }}
          {{- range $probe := list "startupProbe" "readinessProbe" "livenessProbe" }}
          {{- with get $values $probe }}
          {{ $probe }}:
            {{- toYaml . | nindent 12 }}
          {{- end }}
          {{- end }}
          resources:
            {{- toYaml $values.resources | nindent 12 }}
          securityContext:
            {{- toYaml $values.securityContext | nindent 12 }}
          volumeMounts:
            - { name: tmp, mountPath: /tmp }
            {{- with $context.volumeMounts }}
            {{- . | nindent 12 }}
            {{- end }}
      volumes:
        - name: tmp
          emptyDir: {}
        {{- with $context.volumes }}
        {{- . | nindent 8 }}
        {{- end }}
{{- end }}
{{- end }}

{{/* What picks the pods of a component and colour. */}}
{{- define "llm-router.podLabels" -}}
{{ include "llm-router.selectorLabels" .root }}
app.kubernetes.io/component: {{ .component }}
{{- if and .color (ne .color "-") }}
llm-router/color: {{ .color }}
{{- end }}
{{- end }}
