#!/bin/sh
# Makes what compose.yaml needs and is not there yet: .env and the files in secrets/. Changes nothing that exists.
set -eu
cd "$(dirname "$0")"
umask 077
random() { od -An -N24 -tx1 /dev/urandom | tr -d ' \n'; }

mkdir -p secrets # 0700: it keeps others on this machine away from the files, which the containers' users must be able to read
[ -e secrets/master_key ] || head -c 32 /dev/urandom | base64 | tr -d '\n' >secrets/master_key
[ -e secrets/postgres_password ] || random >secrets/postgres_password
[ -e secrets/pgpass ] || printf 'postgres:5432:promptgate:promptgate:%s\n' "$(cat secrets/postgres_password)" >secrets/pgpass
[ -e secrets/grafana_password ] || random >secrets/grafana_password
chmod 0444 secrets/*
[ -e .env ] || sed "s/^REDIS_PASSWORD=\$/REDIS_PASSWORD=$(random)/" .env.example >.env
echo "secrets/ and .env are there. Keep a copy of secrets/master_key elsewhere: without it the database cannot be read."
