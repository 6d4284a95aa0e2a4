{{- define "jobber.fullname" -}}
{{- if contains .Chart.Name .Release.Name }}{{ .Release.Name | trunc 50 | trimSuffix "-" }}{{ else }}{{ printf "%s-%s" .Release.Name .Chart.Name | trunc 50 | trimSuffix "-" }}{{ end }}
{{- end }}

{{- define "jobber.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}

{{/* Labels by which pods of a role are found: (list $ "jobs"). */}}
{{- define "jobber.selector" -}}
app.kubernetes.io/name: {{ (index . 0).Chart.Name }}
app.kubernetes.io/instance: {{ (index . 0).Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end }}

{{- define "jobber.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end }}

{{- define "jobber.secret" -}}
{{ required "secrets.existing: the name of the secret with jwt-secret and database-url" .Values.secrets.existing }}
{{- end }}

{{/* Ports of a role; gRPC where there is one. */}}
{{- define "jobber.ports" -}}
auth: {http: 3000, grpc: 5000}
jobs: {http: 3001, grpc: 5002}
executor: {http: 3002}
products: {http: 3003, grpc: 5001}
{{- end }}

{{- define "jobber.podSecurity" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
fsGroup: 10001
seccompProfile:
  type: RuntimeDefault
{{- end }}

{{- define "jobber.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
capabilities:
  drop: [ALL]
{{- end }}

{{/* Environment of a role: (list $ "jobs"). */}}
{{- define "jobber.environment" -}}
{{- $root := index . 0 }}{{ $role := index . 1 }}{{ $values := $root.Values }}
{{- $name := include "jobber.fullname" $root }}
{{- $ports := index (include "jobber.ports" $root | fromYaml) $role }}
- name: JWT_SECRET
  valueFrom:
    secretKeyRef:
      name: {{ include "jobber.secret" $root }}
      key: {{ $values.secrets.jwtSecretKey }}
- name: JOBBER_HOST
  value: 0.0.0.0
- name: JOBBER_MODE
  value: production
- name: JOBBER_HTTP_PORT
  value: {{ $ports.http | quote }}
- name: JOBBER_DRAIN_DELAY
  value: {{ $values.drainDelay | quote }}
- name: JOBBER_GRACE
  value: {{ $values.grace | quote }}
{{- if ne $role "executor" }}
- name: DATABASE_URL
  valueFrom:
    secretKeyRef:
{{- if $values.cloudnativepg.enabled }}
      name: {{ $name }}-db-app
      key: uri
{{- else }}
      name: {{ include "jobber.secret" $root }}
      key: {{ $values.secrets.databaseUrlKey }}
{{- end }}
- name: JOBBER_GRPC_PORT
  value: {{ $ports.grpc | quote }}
{{- end }}
{{- if and (eq $role "auth") $values.secrets.adminPasswordKey }}
- name: JOBBER_ADMIN_PASSWORD
  valueFrom:
    secretKeyRef:
      name: {{ include "jobber.secret" $root }}
      key: {{ $values.secrets.adminPasswordKey }}
{{- end }}
{{- if has $role (list "jobs" "executor") }}
- name: PULSAR_SERVICE_URL
  value: {{ $values.pulsar.serviceUrl | quote }}
- name: JOBBER_PULSAR_NAMESPACE
  value: {{ $values.pulsar.namespace | quote }}
{{- if $values.pulsar.partitions }}
- name: JOBBER_PULSAR_PARTITIONS
  value: {{ $values.pulsar.partitions | quote }}
- name: JOBBER_PULSAR_ADMIN_URL
  value: {{ $values.pulsar.adminUrl | quote }}
{{- end }}
- name: JOBBER_BLOBS_URL
  value: {{ required "blobs.url: where inputs are kept, s3://bucket/prefix for one" $values.blobs.url | quote }}
- name: PRODUCTS_GRPC_SERVICE_URL
  value: {{ $name }}-products-grpc:5001
{{- with $values.jobModules }}
- name: JOBBER_JOB_MODULES
  value: {{ join "," . | quote }}
{{- end }}
{{- end }}
{{- if eq $role "jobs" }}
- name: AUTH_GRPC_SERVICE_URL
  value: {{ $name }}-auth-grpc:5000
{{- end }}
{{- if eq $role "executor" }}
- name: JOBS_GRPC_SERVICE_URL
  value: {{ $name }}-jobs-grpc:5002
{{- with $values.executor.onlyJobs }}
- name: JOBBER_ONLY_JOBS
  value: {{ join "," . | quote }}
{{- end }}
{{- end }}
{{- if $values.mtls.enabled }}
- name: JOBBER_GRPC_AUTHORITY
  value: /certificates/ca.crt
- name: JOBBER_GRPC_CERTIFICATE
  value: /certificates/tls.crt
- name: JOBBER_GRPC_KEY
  value: /certificates/tls.key
{{- end }}
{{- range $key, $value := merge (deepCopy (index $values $role).settings) $values.settings }}
- name: {{ $key }}
  value: {{ $value | toString | quote }}
{{- end }}
{{- end }}
