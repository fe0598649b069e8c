# A leftover in doubt blocks the start, with the evidence. It is judged again; nothing counts towards the start limit.

cluster
[cluster]
name = "shop"
[nodes]
cache = { redis1 = "10.0.0.41" }
[services]
redis = { on = "cache" }
end
unit redis
[run]
command = ["/usr/bin/redis-server"]
[ready]
probe = { kind = "tcp", port = 6379 }
end
on redis1

searched all nothing
cleaned redis@redis1 doubt 417 is redis-server, by whom is not known
show redis@redis1
----
clean redis@redis1
tell: redis@redis1 is cleaning
event: redis@redis1 doubt: 417 is redis-server, by whom is not known
tell: redis@redis1 is blocked
redis@redis1 is blocked: 417 is redis-server, by whom is not known

after 1s
cleaned redis@redis1 doubt 417 is redis-server, by whom is not known
----
[998ms later]
clean redis@redis1

after 1s
cleaned redis@redis1 stale 417 is gone
----
[999ms later]
clean redis@redis1
event: redis@redis1 cleaned: 417 is gone
spawn redis@redis1 (start 1)
tell: redis@redis1 is starting
ask redis@redis1 fast

spawned redis@redis1 500
own redis@redis1 loading 12
own redis@redis1 loading 80
own redis@redis1 ready
----
event: redis@redis1 started: pid 500
verify redis@redis1
tell: redis@redis1 is starting
tell: redis@redis1 is starting
event: redis@redis1 ready: ready (fine)
tell: redis@redis1 is ready
ask redis@redis1 every 5s

