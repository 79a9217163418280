{{- define "fusillade.name" -}}
{{- if contains .Chart.Name .Release.Name }}{{ .Release.Name | trunc 40 | trimSuffix "-" }}{{ else }}{{ printf "%s-%s" .Release.Name .Chart.Name | trunc 40 | trimSuffix "-" }}{{ end }}
{{- end }}

{{- define "fusillade.selector" -}}
app.kubernetes.io/name: {{ .root.Chart.Name }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{- define "fusillade.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
{{- /* A tag may be longer than a label, and begin and end as that may not. */}}
app.kubernetes.io/version: {{ .root.Values.image.tag | default .root.Chart.AppVersion | trunc 63 | trimAll "._-" | quote }}
{{ include "fusillade.selector" . }}
{{- end }}

{{- define "fusillade.image" -}}
{{- with .Values.image -}}
{{- if .digest }}{{ .repository }}@{{ .digest }}{{ else }}{{ .repository }}:{{ .tag | default $.Chart.AppVersion }}{{ end }}
{{- end }}
{{- end }}

{{- define "fusillade.serviceAccount" -}}
{{- if .Values.serviceAccount.create }}{{ .Values.serviceAccount.name | default (include "fusillade.name" .) }}{{ else }}{{ .Values.serviceAccount.name | default "default" }}{{ end }}
{{- end }}

{{/* A secret's name and key of a role, or of all. Takes root, of (database or nats.credentials) and component. */}}
{{- define "fusillade.roleSecret" -}}
{{- $own := get .of.roleSecrets .component | default dict -}}
{{- dict "name" (get $own "name" | default .of.secret.name) "key" (get $own "key" | default .of.secret.key) | toJson -}}
{{- end }}

{{- define "fusillade.podSecurity" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
fsGroupChangePolicy: OnRootMismatch
seccompProfile:
  type: RuntimeDefault
{{- end }}

{{- define "fusillade.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end }}

{{/* Environment variables, settings of the values first. Takes root and component. */}}
{{- define "fusillade.env" -}}
{{- $v := .root.Values -}}
{{- $c := .component -}}
{{- $settings := dict -}}
{{- range $name, $value := $v.settings }}{{ $_ := set $settings $name $value }}{{ end -}}
{{- range $name, $value := get (get $v $c | default dict) "settings" | default dict }}{{ $_ := set $settings $name $value }}{{ end -}}
{{- range $name := keys $settings | sortAlpha }}
- name: {{ $name }}
  value: {{ index $settings $name | toString | quote }}
{{- end }}
- name: FUSILLADE_DATABASE_URL_FILE
  value: /etc/fusillade/database/url
{{- if ne $c "migrations" }}
- name: FUSILLADE_NATS_URL
  value: {{ $v.nats.url | quote }}
{{- if ne $v.nats.credentials.kind "none" }}
- name: {{ eq $v.nats.credentials.kind "creds" | ternary "FUSILLADE_NATS_CREDS" "FUSILLADE_NATS_NKEY" }}
  value: /etc/fusillade/nats/credentials
{{- end }}
{{- if $v.nats.tls.secretName }}
- name: FUSILLADE_NATS_CA
  value: /etc/fusillade/nats-tls/ca.crt
{{- if $v.nats.tls.clientCertificate }}
- name: FUSILLADE_NATS_CERT
  value: /etc/fusillade/nats-tls/tls.crt
- name: FUSILLADE_NATS_KEY
  value: /etc/fusillade/nats-tls/tls.key
{{- end }}
{{- end }}
{{- if $v.encryptionKey.secret.name }}
- name: FUSILLADE_ENCRYPTION_KEY_FILE
  value: /etc/fusillade/encryption/key
{{- end }}
- name: FUSILLADE_ADMIN_ADDR
  value: ":9090"
- name: FUSILLADE_DRAIN_TIMEOUT_MS
  value: {{ mul $v.drainTimeoutSeconds 1000 | quote }}
{{- end }}
{{- if eq $c "consumer" }}
{{- include "fusillade.upstreamEnv" .root }}
{{- end }}
{{- if eq $c "api" }}
- name: FUSILLADE_LISTEN_ADDR
  value: ":8080"
- name: FUSILLADE_API_AUTH
  value: {{ $v.api.auth }}
{{- with $v.api.hosts }}
- name: FUSILLADE_API_HOSTS
  value: {{ join "," . | quote }}
{{- end }}
{{- end }}
{{- end }}

{{- define "fusillade.upstreamEnv" }}
{{- if .Values.upstream.url }}
- name: FUSILLADE_UPSTREAM_URL
  value: {{ .Values.upstream.url | quote }}
{{- end }}
{{- if .Values.upstream.apiKey.secret.name }}
- name: FUSILLADE_UPSTREAM_API_KEY_FILE
  value: /etc/fusillade/upstream/api-key
{{- end }}
{{- if .Values.upstream.ca.secretName }}
- name: FUSILLADE_UPSTREAM_CA
  value: /etc/fusillade/upstream-ca/ca.crt
{{- end }}
{{- end }}

{{/* Names, secrets and keys of what a component mounts. Takes root and component. */}}
{{- define "fusillade.secrets" -}}
{{- $v := .root.Values -}}
{{- $list := list -}}
{{- $database := include "fusillade.roleSecret" (dict "of" $v.database "component" .component) | fromJson -}}
{{- $list = append $list (dict "mount" "database" "secret" $database.name "key" $database.key "path" "url") -}}
{{- if $v.database.tls.secretName }}{{ $list = append $list (dict "mount" "database-tls" "secret" $v.database.tls.secretName) }}{{ end -}}
{{- if ne .component "migrations" -}}
{{- if ne $v.nats.credentials.kind "none" -}}
{{- $nats := include "fusillade.roleSecret" (dict "of" $v.nats.credentials "component" .component) | fromJson -}}
{{- $list = append $list (dict "mount" "nats" "secret" $nats.name "key" $nats.key "path" "credentials") -}}
{{- end -}}
{{- if $v.nats.tls.secretName }}{{ $list = append $list (dict "mount" "nats-tls" "secret" $v.nats.tls.secretName) }}{{ end -}}
{{- with $v.encryptionKey.secret }}{{ if .name }}{{ $list = append $list (dict "mount" "encryption" "secret" .name "key" .key "path" "key") }}{{ end }}{{ end -}}
{{- end -}}
{{- if eq .component "consumer" }}{{ $list = concat $list (include "fusillade.upstreamSecrets" .root | fromJsonArray) }}{{ end -}}
{{- $list | toJson -}}
{{- end }}

{{- define "fusillade.upstreamSecrets" -}}
{{- $list := list -}}
{{- with .Values.upstream.apiKey.secret }}{{ if .name }}{{ $list = append $list (dict "mount" "upstream" "secret" .name "key" .key "path" "api-key") }}{{ end }}{{ end -}}
{{- with .Values.upstream.ca }}{{ if .secretName }}{{ $list = append $list (dict "mount" "upstream-ca" "secret" .secretName) }}{{ end }}{{ end -}}
{{- $list | toJson -}}
{{- end }}

{{- define "fusillade.secretMounts" -}}
{{- range . }}
- name: {{ .mount }}
  mountPath: /etc/fusillade/{{ .mount }}
  readOnly: true
{{- end }}
{{- end }}

{{- define "fusillade.secretVolumes" -}}
{{- range . }}
- name: {{ .mount }}
  secret:
    secretName: {{ .secret }}
    defaultMode: 0440
    {{- if hasKey . "key" }}
    items: [{key: {{ .key | quote }}, path: {{ .path }}}]
    {{- end }}
{{- end }}
{{- end }}

{{- define "fusillade.probes" -}}
startupProbe:
  httpGet: {path: /livez, port: admin}
  periodSeconds: 2
  failureThreshold: 150
livenessProbe:
  httpGet: {path: /livez, port: admin}
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 3
readinessProbe:
  httpGet: {path: /readyz, port: admin}
  periodSeconds: 5
  timeoutSeconds: 5
{{- end }}

{{- define "fusillade.scheduling" -}}
{{- $own := index .root.Values .component -}}
{{- with $own.nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $own.tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $own.affinity }}
affinity: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $own.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- if .root.Values.topologySpread.enabled }}
topologySpreadConstraints:
{{- range .root.Values.topologySpread.topologyKeys }}
  - maxSkew: 1
    topologyKey: {{ . }}
    whenUnsatisfiable: {{ $.root.Values.topologySpread.whenUnsatisfiable }}
    labelSelector:
      matchLabels: {{- include "fusillade.selector" $ | nindent 8 }}
    matchLabelKeys: [pod-template-hash]
{{- end }}
{{- end }}
{{- end }}

{{/* A Deployment. Takes root and component. */}}
{{- define "fusillade.deployment" -}}
{{- $own := index .root.Values .component -}}
{{- $secrets := include "fusillade.secrets" . | fromJsonArray -}}
{{- $preStop := eq .component "api" | ternary (int .root.Values.api.preStopSeconds) 0 -}}
apiVersion: apps/v1
kind: Deployment
metadata:
  name: {{ include "fusillade.name" .root }}-{{ .component }}
  namespace: {{ .root.Release.Namespace }}
  labels: {{- include "fusillade.labels" . | nindent 4 }}
spec:
  {{- if not (and (eq .component "consumer") .root.Values.keda.enabled) }}
  replicas: {{ $own.replicas }}
  {{- end }}
  revisionHistoryLimit: 5
  strategy:
    type: RollingUpdate
    rollingUpdate: {maxSurge: 1, maxUnavailable: 0}
  selector:
    matchLabels: {{- include "fusillade.selector" . | nindent 6 }}
  template:
    metadata:
      labels:
        {{- include "fusillade.selector" . | nindent 8 }}
        app.kubernetes.io/part-of: {{ include "fusillade.name" .root }}
        {{- with $own.podLabels }}{{ toYaml . | nindent 8 }}{{ end }}
      {{- with $own.podAnnotations }}
      annotations: {{- toYaml . | nindent 8 }}
      {{- end }}
    spec:
      serviceAccountName: {{ include "fusillade.serviceAccount" .root }}
      automountServiceAccountToken: false
      enableServiceLinks: false
      # The calls in flight, the results' last writes, and some seconds.
      terminationGracePeriodSeconds: {{ add .root.Values.drainTimeoutSeconds 15 $preStop }}
      securityContext: {{- include "fusillade.podSecurity" . | nindent 8 }}
      {{- with .root.Values.image.pullSecrets }}
      imagePullSecrets: {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- include "fusillade.scheduling" . | nindent 6 }}
      containers:
        - name: {{ .component }}
          image: {{ include "fusillade.image" .root }}
          imagePullPolicy: {{ .root.Values.image.pullPolicy }}
          command: [{{ .component }}]
          env: {{- include "fusillade.env" . | trim | nindent 12 }}
          ports:
            - {name: admin, containerPort: 9090}
            {{- if eq .component "api" }}
            - {name: http, containerPort: 8080}
            {{- end }}
          {{- include "fusillade.probes" . | nindent 10 }}
          {{- if $preStop }}
          lifecycle:
            preStop:
              sleep: {seconds: {{ $preStop }}}
          {{- end }}
          resources: {{- toYaml $own.resources | nindent 12 }}
          securityContext: {{- include "fusillade.containerSecurity" . | nindent 12 }}
          volumeMounts: {{- include "fusillade.secretMounts" $secrets | trim | nindent 12 }}
      volumes: {{- include "fusillade.secretVolumes" $secrets | trim | nindent 8 }}
{{- end }}
