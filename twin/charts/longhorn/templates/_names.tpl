{{- define "labels" -}}
app.kubernetes.io/name: longhorn
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "metadata" -}}
namespace: {{ .Release.Namespace }}
labels:
  {{- include "labels" . | nindent 2 }}
{{- end }}

{{- define "image" -}}
{{ .registry | default "docker.io" }}/{{ .repository }}:{{ .tag }}
{{- end }}

{{- /* Where a pod may run; takes (list $ part), the part's own values before the global ones. */ -}}
{{- define "placement" -}}
{{- $root := index . 0 }}{{ $part := index . 1 }}
{{- with $root.Values.global.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $part.priorityClass }}
priorityClassName: {{ . }}
{{- end }}
{{- with default $root.Values.global.tolerations $part.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with default $root.Values.global.nodeSelector $part.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}
