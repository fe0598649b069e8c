# The agent was killed and comes back: what runs is kept, never started twice.

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

searched redis@redis1 running 500 ready
----
event: redis@redis1 found-running: pid 500 still runs: kept
verify redis@redis1
tell: redis@redis1 is unready
ask redis@redis1 every 500ms

own redis@redis1 ready
show redis@redis1
----
event: redis@redis1 ready: ready (fine)
tell: redis@redis1 is ready
ask redis@redis1 every 5s
redis@redis1 is ready: ready (fine)

own redis@redis1 refused
after 500ms
own redis@redis1 refused
after 500ms
own redis@redis1 refused
show redis@redis1
----
tell: redis@redis1 is ready
[499ms later]
verify redis@redis1
[499ms later]
verify redis@redis1
event: redis@redis1 unready: connection refused
tell: redis@redis1 is unready
ask redis@redis1 every 500ms
redis@redis1 is unready: connection refused

stop redis@redis1
exited redis@redis1 code 0
swept redis@redis1
----
event: redis@redis1 held: by alice
save: redis@redis1 is held by alice
event: redis@redis1 leaving: held by alice
event: redis@redis1 stopping: held by alice
signal 15 to redis@redis1
tell: redis@redis1 is stopping, vetoed
ask redis@redis1 no more
reply: redis@redis1 stopping: held by alice
event: redis@redis1 exited: exit code 0
sweep redis@redis1
tell: redis@redis1 is stopping, vetoed
event: redis@redis1 stopped: nothing of it runs
tell: redis@redis1 is stopped

start redis@redis1
----
event: redis@redis1 released: by alice
save: redis@redis1 is to be up
clean redis@redis1
tell: redis@redis1 is cleaning
reply: redis@redis1 cleaning: judges what an earlier run left behind

