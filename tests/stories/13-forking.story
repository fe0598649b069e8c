# A daemon that daemonises: its launcher's exit 0 proves nothing. The main process is found, or the start failed.

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
kind = "forking"
command = ["/usr/bin/redis-server", "--daemonize", "yes"]
pidfile = "/run/redis.pid"
[ready]
probe = { kind = "tcp", port = 6379 }
end
on redis1

searched all nothing
cleaned redis@redis1 clear
spawned redis@redis1 100
exited redis@redis1 code 0
----
clean redis@redis1
tell: redis@redis1 is cleaning
spawn redis@redis1 (start 1)
tell: redis@redis1 is starting
ask redis@redis1 fast
event: redis@redis1 started: pid 100
verify redis@redis1
find the main process of redis@redis1

no-main redis@redis1
after 20ms
main redis@redis1 101
own redis@redis1 ready
----
[19ms later]
find the main process of redis@redis1
event: redis@redis1 main-found: the daemon is pid 101
event: redis@redis1 ready: ready (fine)
tell: redis@redis1 is ready
ask redis@redis1 every 5s

exited redis@redis1 signal 9
after 2s
cleaned redis@redis1 clear
spawned redis@redis1 200
exited redis@redis1 code 0
daemonless redis@redis1
----
event: redis@redis1 exited: killed by SIGKILL
event: redis@redis1 backoff: killed by SIGKILL; next start in 1.0 s
tell: redis@redis1 is backoff
ask redis@redis1 no more
[999ms later]
clean redis@redis1
tell: redis@redis1 is cleaning
spawn redis@redis1 (start 2)
tell: redis@redis1 is starting
ask redis@redis1 fast
event: redis@redis1 started: pid 200
verify redis@redis1
find the main process of redis@redis1
event: redis@redis1 backoff: its launcher exited 0 and left no daemon: no daemon; next start in 2.0 s
tell: redis@redis1 is backoff
ask redis@redis1 no more

