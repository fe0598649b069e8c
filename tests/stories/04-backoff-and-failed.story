# What fails is started again, later and later; at the start limit it is given up, with the reason. An operator, or
# a need that is met again, gives it a new chance.

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
[restart]
delay = "1s"
limit = 3
end
on redis1

searched all nothing
cleaned redis@redis1 clear
spawned redis@redis1 100
exited redis@redis1 code 1
----
clean redis@redis1
tell: redis@redis1 is cleaning
spawn redis@redis1 (start 1)
tell: redis@redis1 is starting
ask redis@redis1 fast
event: redis@redis1 started: pid 100
verify redis@redis1
event: redis@redis1 exited: exit code 1
event: redis@redis1 backoff: exit code 1; next start in 1.0 s
tell: redis@redis1 is backoff
ask redis@redis1 no more

after 1s
cleaned redis@redis1 clear
spawned redis@redis1 101
exited redis@redis1 code 1
----
[999ms later]
clean redis@redis1
tell: redis@redis1 is cleaning
spawn redis@redis1 (start 2)
tell: redis@redis1 is starting
ask redis@redis1 fast
event: redis@redis1 started: pid 101
verify redis@redis1
event: redis@redis1 exited: exit code 1
event: redis@redis1 backoff: exit code 1; next start in 2.0 s
tell: redis@redis1 is backoff
ask redis@redis1 no more

after 2s
cleaned redis@redis1 clear
spawn-failed redis@redis1 no such file
show redis@redis1
----
[1.999s later]
clean redis@redis1
tell: redis@redis1 is cleaning
spawn redis@redis1 (start 3)
tell: redis@redis1 is starting
ask redis@redis1 fast
event: redis@redis1 failed: gave up after 3 failures: cannot be started: no such file
tell: redis@redis1 is failed
ask redis@redis1 no more
redis@redis1 is failed: gave up after 3 failures: cannot be started: no such file

after 1m
----

start redis@redis1
----
event: redis@redis1 released: by alice
clean redis@redis1
tell: redis@redis1 is cleaning
reply: redis@redis1 cleaning: judges what an earlier run left behind

