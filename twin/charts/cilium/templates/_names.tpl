{{- define "metadata" -}}
namespace: {{ .Release.Namespace }}
labels: {app.kubernetes.io/part-of: cilium}
{{- end }}

{{- define "image" -}}
{{ .repository }}:{{ .tag }}{{ if .useDigest }}@{{ .digest }}{{ end }}
{{- end }}

{{- define "envoy" -}}
{{- if kindIs "invalid" .Values.envoy.enabled }}true{{ else if .Values.envoy.enabled }}true{{ end }}
{{- end }}
