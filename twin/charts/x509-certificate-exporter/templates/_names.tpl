{{- define "labels" -}}
app.kubernetes.io/name: x509-certificate-exporter
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "metadata" -}}
namespace: {{ .Release.Namespace }}
labels:
  {{- include "labels" . | nindent 2 }}
  {{- with .Values.extraLabels }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end }}

{{- /* A pod's spec; takes (list $ settings config-map files). */ -}}
{{- define "pod" -}}
{{- $root := index . 0 }}{{ $set := index . 1 }}{{ $files := index . 3 }}
{{- with $root.Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
hostNetwork: {{ $root.Values.hostNetwork }}
{{- with $set.podSecurityContext }}
securityContext:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $set.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $set.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $set.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $set.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
containers:
  - name: x509-certificate-exporter
    image: {{ $root.Values.image.registry }}/{{ $root.Values.image.repository }}:{{ $root.Values.image.tag | default $root.Chart.AppVersion }}
    imagePullPolicy: {{ $root.Values.image.pullPolicy }}
    args: [--config=/etc/x509-certificate-exporter/config.yaml]
    ports:
      - {name: metrics, containerPort: {{ $root.Values.podListenPort }}}
    readinessProbe: {httpGet: {path: /healthz, port: metrics}, initialDelaySeconds: 5, periodSeconds: 3}
    livenessProbe: {httpGet: {path: /healthz, port: metrics}, initialDelaySeconds: 5, periodSeconds: 3}
    {{- with $set.securityContext }}
    securityContext:
      {{- toYaml . | nindent 6 }}
    {{- end }}
    {{- with $set.resources }}
    resources:
      {{- toYaml . | nindent 6 }}
    {{- end }}
    volumeMounts:
      - {name: config, mountPath: /etc/x509-certificate-exporter, readOnly: true}
      {{- range $name, $path := $files }}
      - {name: {{ $name }}, mountPath: /mnt/watch/{{ $name }}{{ $path }}, readOnly: true}
      {{- end }}
volumes:
  - {name: config, configMap: {name: {{ index . 2 }}}}
  {{- range $name, $path := $files }}
  - {name: {{ $name }}, hostPath: {path: {{ $path }}{{ with $set.hostPathVolumeType }}, type: {{ . }}{{ end }}}}
  {{- end }}
{{- end }}
