{{- define "metadata" -}}
namespace: {{ .Release.Namespace }}
labels:
  {{- include "labels" . | nindent 2 }}
{{- end }}

{{- define "labels" -}}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/name: csi-driver-nfs
{{- with .Values.customLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- /* A side container; takes (list $ container image resources args). */ -}}
{{- define "side" -}}
{{- $root := index . 0 }}{{ $image := index $root.Values.image (index . 2) }}
- name: {{ index . 1 }}
  image: {{ $image.repository }}:{{ $image.tag }}
  imagePullPolicy: {{ $image.pullPolicy }}
  args:
    {{- toYaml (index . 4) | nindent 4 }}
  securityContext:
    readOnlyRootFilesystem: true
    allowPrivilegeEscalation: false
    capabilities: {drop: [ALL]}
  resources:
    {{- toYaml (index . 3) | nindent 4 }}
  volumeMounts:
    - {name: socket-dir, mountPath: /csi}
    {{- if eq (index . 1) "node-driver-registrar" }}
    - {name: registration-dir, mountPath: /registration}
    {{- end }}
{{- end }}

{{- /* The driver itself, on a node or in the controller; takes (list $ part). */ -}}
{{- define "driver" -}}
{{- $root := index . 0 }}{{ $part := index . 1 }}
- name: nfs
  image: {{ $root.Values.image.nfs.repository }}:{{ $root.Values.image.nfs.tag }}
  imagePullPolicy: {{ $root.Values.image.nfs.pullPolicy }}
  args:
    - --v={{ $part.logLevel }}
    - --nodeid=$(NODE_ID)
    - --endpoint=$(CSI_ENDPOINT)
    - --drivername={{ $root.Values.driver.name }}
    - --mount-permissions={{ $root.Values.driver.mountPermissions }}
    {{- with $part.defaultOnDeletePolicy }}
    - --default-ondelete-policy={{ . }}
    {{- end }}
  env:
    - {name: NODE_ID, valueFrom: {fieldRef: {fieldPath: spec.nodeName}}}
    - {name: CSI_ENDPOINT, value: "unix:///csi/csi.sock"}
  # Mounts on the host, as upstream's does.
  securityContext:
    privileged: true
    allowPrivilegeEscalation: true
    capabilities: {add: [SYS_ADMIN], drop: [ALL]}
  livenessProbe:
    httpGet: {host: localhost, path: /healthz, port: {{ $part.livenessProbe.healthPort }}}
    initialDelaySeconds: 30
    periodSeconds: 30
    timeoutSeconds: 10
    failureThreshold: 5
  resources:
    {{- toYaml $part.resources.nfs | nindent 4 }}
  volumeMounts:
    - {name: socket-dir, mountPath: /csi}
    - {name: pods-mount-dir, mountPath: {{ $root.Values.kubeletDir }}/pods, mountPropagation: Bidirectional}
{{- end }}

{{- define "placement" -}}
{{- $root := index . 0 }}{{ $part := index . 1 }}
hostNetwork: true
dnsPolicy: {{ $part.dnsPolicy }}
priorityClassName: {{ $part.priorityClassName }}
securityContext:
  seccompProfile: {type: RuntimeDefault}
{{- with $root.Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
nodeSelector:
  kubernetes.io/os: linux
  {{- if $part.runOnControlPlane }}
  node-role.kubernetes.io/control-plane: ""
  {{- end }}
  {{- with $part.nodeSelector }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- with $part.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $part.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}
