{{- define "router.name" -}}
{{ .Values.namePrefix }}llm-runner-router
{{- end }}

{{- define "router.selector" -}}
app: llm-runner-router
{{- with .Values.version }}
version: {{ . }}
{{- end }}
{{- end }}
