#!/bin/sh
# Patroni runs it once, on the machine that creates the cluster, with the superuser's URL.
set -eu
psql "$1" -v ON_ERROR_STOP=1 -q \
    -c "create role flashsale login password '${DATABASE_PASSWORD}'" \
    -c "create database flashsale owner flashsale"
