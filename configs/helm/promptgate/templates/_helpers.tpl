{{- define "promptgate.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 52 | trimSuffix "-" -}}
{{- end -}}

{{- /* At most 52 characters: a StatefulSet's pods and their labels add more. */ -}}
{{- define "promptgate.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 52 | trimSuffix "-" -}}
{{- else if contains (include "promptgate.name" .) .Release.Name -}}
{{- .Release.Name | trunc 52 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "promptgate.name" .) | trunc 52 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "promptgate.selector" -}}
app.kubernetes.io/name: {{ include "promptgate.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "promptgate.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
app.kubernetes.io/version: {{ .Values.image.tag | default .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{ include "promptgate.selector" . }}
{{- end -}}

{{- define "promptgate.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "promptgate.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{- define "promptgate.image" -}}
{{- if .Values.image.digest -}}
{{- printf "%s@%s" .Values.image.repository .Values.image.digest -}}
{{- else -}}
{{- printf "%s:%s" .Values.image.repository (.Values.image.tag | default .Chart.AppVersion) -}}
{{- end -}}
{{- end -}}

{{- /* The variable that holds the key of the provider at this place in the list. */ -}}
{{- define "promptgate.providerEnv" -}}
PROVIDER_{{ . }}_API_KEY
{{- end -}}

{{- /* promptgate.yaml: .Values.config, with what the chart owns on top. Secrets are ${NAME}, which the gateway takes from its environment. */ -}}
{{- define "promptgate.config" -}}
{{- $providers := list -}}
{{- range $i, $p := .Values.providers -}}
{{- $c := omit $p "existingSecret" "key" -}}
{{- if hasKey $p "existingSecret" -}}
{{- $_ := set $c "api_key" (printf "${%s}" (include "promptgate.providerEnv" $i)) -}}
{{- end -}}
{{- $providers = append $providers $c -}}
{{- end -}}
{{- $redis := dict "addrs" .Values.redis.addrs -}}
{{- if .Values.redis.addrs -}}
{{- $redis = dict "addrs" .Values.redis.addrs "cluster" .Values.redis.cluster "master_name" .Values.redis.masterName
      "username" .Values.redis.username "db" (int .Values.redis.db) "tls" .Values.redis.tls "ca_file" .Values.redis.caFile
      "cert_file" .Values.redis.certFile "key_file" .Values.redis.keyFile "sentinel_username" .Values.redis.sentinelUsername -}}
{{- if .Values.redis.existingSecret -}}
{{- $_ := set $redis "password" "${REDIS_PASSWORD}" -}}
{{- end -}}
{{- if .Values.redis.sentinelKey -}}
{{- $_ := set $redis "sentinel_password" "${SENTINEL_PASSWORD}" -}}
{{- end -}}
{{- end -}}
{{- $own := dict
      "addr" "0.0.0.0:8080" "ops_addr" "0.0.0.0:9090" "data" "/data"
      "database" (dict "url" "${DATABASE_URL}")
      "encryption" (dict "master_key_file" "/etc/promptgate-keys/master-key")
      "server" (dict "drain_grace" (printf "%ds" (int .Values.drain.drainSeconds)))
      "spool" (dict "max_bytes" (int64 .Values.persistence.spoolMaxBytes))
      "allow_plaintext" .Values.allowPlaintext "redis" $redis "providers" $providers -}}
{{- if .Values.tls.existingSecret -}}
{{- $_ := set $own "tls" (dict "cert_file" "/etc/promptgate-tls/tls.crt" "key_file" "/etc/promptgate-tls/tls.key") -}}
{{- end -}}
{{- if .Values.console.url -}}
{{- $_ := set $own "console" (dict "url" .Values.console.url) -}}
{{- end -}}
{{- if .Values.smtp.addr -}}
{{- $smtp := dict "addr" .Values.smtp.addr "from" .Values.smtp.from "username" .Values.smtp.username "tls" .Values.smtp.tls "ca_file" .Values.smtp.caFile -}}
{{- if .Values.smtp.existingSecret -}}
{{- $_ := set $smtp "password" "${SMTP_PASSWORD}" -}}
{{- end -}}
{{- $_ := set $own "smtp" $smtp -}}
{{- end -}}
{{- mergeOverwrite (dict "log_format" "json") (deepCopy .Values.config) $own | toYaml -}}
{{- end -}}
