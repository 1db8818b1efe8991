{{- /* Upstream's names: the release where it says what it is, else the release and `kube-prometheus`, 26 characters. */ -}}
{{- define "full" -}}
{{- if .Values.fullnameOverride }}{{ .Values.fullnameOverride | trunc 26 | trimSuffix "-" }}
{{- else if contains "kube-prometheus-stack" .Release.Name }}{{ .Release.Name | trunc 26 | trimSuffix "-" }}
{{- else }}{{ printf "%s-kube-prometheus" .Release.Name | trunc 26 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{- define "space" -}}
{{ .Values.namespaceOverride | default .Release.Namespace }}
{{- end }}

{{- define "labels" -}}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/part-of: kube-prometheus-stack
release: {{ .Release.Name }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "metadata" -}}
namespace: {{ include "space" . }}
labels:
  {{- include "labels" . | nindent 2 }}
{{- end }}

{{- /* An image's name; takes (list $ image tag-when-none-is-set). */ -}}
{{- define "image" -}}
{{- $image := index . 1 }}
{{- (index . 0).Values.global.imageRegistry | default $image.registry }}/{{ $image.repository }}:{{ $image.tag | default (index . 2) }}
{{- end }}

{{- /* Where a pod may run, of the part's own settings. */ -}}
{{- define "placement" -}}
{{- with .nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- end }}

{{- /* A selector of Prometheus; takes (list $ kind): all of them, or those of this release. */ -}}
{{- define "selector" -}}
{{- $spec := (index . 0).Values.prometheus.prometheusSpec }}{{ $kind := index . 1 }}
{{- with get $spec (printf "%sSelector" $kind) }}
{{- toJson . }}
{{- else }}
{{- if get $spec (printf "%sSelectorNilUsesHelmValues" $kind) }}{matchLabels: {release: {{ (index $ 0).Release.Name }}}}{{ else }}{}{{ end }}
{{- end }}
{{- end }}

{{- /* An Ingress; takes (list $ name settings service port). */ -}}
{{- define "ingress" -}}
{{- $root := index . 0 }}{{ $set := index . 2 }}
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata:
  name: {{ index . 1 }}
  {{- include "metadata" $root | nindent 2 }}
    {{- with $set.labels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  {{- with $set.annotations }}
  annotations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
spec:
  {{- with $set.ingressClassName }}
  ingressClassName: {{ . }}
  {{- end }}
  rules:
    {{- $service := index . 3 }}{{ $port := index . 4 }}
    {{- range $set.hosts }}
    - host: {{ . }}
      http:
        paths:
          {{- range $set.paths | default (list ($set.path | default "/")) }}
          - path: {{ . }}
            pathType: {{ $set.pathType | default "ImplementationSpecific" }}
            backend: {service: {name: {{ $service }}, port: {number: {{ $port }}}}}
          {{- end }}
    {{- end }}
  {{- with $set.tls }}
  tls:
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end }}
