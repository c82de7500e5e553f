#!/bin/sh
# The service for Apache httpd. Each deletion takes 10 ms.
sleep 0.01
printf 'Content-Type: application/json\nContent-Length: 16\n\n{"deleted":true}'
