{{- define "labels" -}}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- with .Values.global.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- /* The selector of one of the three programs: cert-manager, webhook or cainjector. */ -}}
{{- define "selector" -}}
app.kubernetes.io/name: {{ . | replace "controller" "cert-manager" }}
app.kubernetes.io/component: {{ . }}
{{- end }}

{{- define "name" -}}
cert-manager{{ if ne . "controller" }}-{{ . }}{{ end }}
{{- end }}
