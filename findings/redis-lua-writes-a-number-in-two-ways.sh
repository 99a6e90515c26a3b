#!/bin/sh
# Redis 7.0.15 (Debian's redis-server).
# A Lua script makes a time in microseconds from TIME, as rate limits with a sorted set do. Given to redis.call as a
# number it is written with 17 digits and arrives whole. Joined to a text with "..", or written by cjson.encode, it has
# 14 digits, the rest are gone, without an error: calls within 100 microseconds have one time. Of the members `now ..
# ":" .. name`, or `now` as a text, one is left of many, and the limit counts too few; with milliseconds, of 13 digits,
# nothing shows.
# Output: number: 50 members of 50 / text: 1 member of 50 / 1800000000000049 1.8e+15 [1.8e+15]
set -eu
here=$(mktemp -d)
server=
trap 'test -z "$server" || kill "$server"; rm -rf "$here"' EXIT
redis-server --port 0 --unixsocket "$here/socket" --dir "$here" --save "" --appendonly no >/dev/null &
server=$!
ask() { redis-cli -s "$here/socket" --raw "$@"; }
until [ "$(ask PING 2>/dev/null)" = PONG ]; do sleep 0.1; done
seen=$(ask EVAL '
local now
for call = 0, 49 do
  now = 1800000000 * 1000000 + call
  redis.call("ZADD", KEYS[1], now, now)
  redis.call("ZADD", KEYS[2], now, now .. ":ann")
end
return {
  "number: " .. redis.call("ZCARD", KEYS[1]) .. " members of 50",
  "text: " .. redis.call("ZCARD", KEYS[2]) .. " member of 50",
  redis.call("ZREVRANGE", KEYS[1], 0, 0)[1] .. " " .. now .. " " .. cjson.encode({now}),
}' 2 numbers texts | paste -sd/ | sed 's,/, / ,g')
echo "$seen"
[ "$seen" = "number: 50 members of 50 / text: 1 member of 50 / 1800000000000049 1.8e+15 [1.8e+15]" ]
