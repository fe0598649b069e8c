# A launcher has ended and its daemon was not found yet: a stop has nobody to send a signal to, and sweeps. While the
# launcher still runs, it is the one to hear the signal.

cluster
[cluster]
name = "shop"
[nodes]
all = { n1 = "10.0.0.1", n2 = "10.0.0.2", n3 = "10.0.0.3" }
[services]
db = { on = "n1" }
end
unit db
[run]
command = ["/usr/bin/db"]
kind = "forking"
pidfile = "/run/db.pid"
[ready]
probe = { kind = "tcp", port = 9000 }
end
on n1

searched all nothing
cleaned db@n1 clear
spawned db@n1 100
exited db@n1 code 0
no-main db@n1
stop db@n1
----
clean db@n1
tell: db@n1 is cleaning
spawn db@n1 (start 1)
tell: db@n1 is starting
ask db@n1 fast
event: db@n1 started: pid 100
verify db@n1
find the main process of db@n1
event: db@n1 held: by alice
save: db@n1 is held by alice
event: db@n1 leaving: held by alice
event: db@n1 stopping: held by alice
sweep db@n1
tell: db@n1 is stopping, vetoed
ask db@n1 no more
reply: db@n1 stopping: clears what is left of its processes

swept db@n1
start db@n1
cleaned db@n1 clear
spawned db@n1 200
stop db@n1
exited db@n1 code 0
----
event: db@n1 stopped: nothing of it runs
tell: db@n1 is stopped
event: db@n1 released: by alice
save: db@n1 is to be up
clean db@n1
tell: db@n1 is cleaning
reply: db@n1 cleaning: judges what an earlier run left behind
spawn db@n1 (start 2)
tell: db@n1 is starting
ask db@n1 fast
event: db@n1 started: pid 200
verify db@n1
event: db@n1 held: by alice
save: db@n1 is held by alice
event: db@n1 leaving: held by alice
event: db@n1 stopping: held by alice
signal 15 to db@n1
tell: db@n1 is stopping, vetoed
ask db@n1 no more
reply: db@n1 stopping: held by alice
sweep db@n1
tell: db@n1 is stopping, vetoed

swept db@n1
start db@n1
cleaned db@n1 clear
spawned db@n1 300
exited db@n1 code 1 saying no space left
----
event: db@n1 stopped: nothing of it runs
tell: db@n1 is stopped
event: db@n1 released: by alice
save: db@n1 is to be up
clean db@n1
tell: db@n1 is cleaning
reply: db@n1 cleaning: judges what an earlier run left behind
spawn db@n1 (start 3)
tell: db@n1 is starting
ask db@n1 fast
event: db@n1 started: pid 300
verify db@n1
event: db@n1 exited: exit code 1; last words: no space left
event: db@n1 backoff: exit code 1; last words: no space left; next start in 1.0 s
tell: db@n1 is backoff
ask db@n1 no more

# What the next agent would know: first the launcher is held, then the daemon, then one that has served.
after 1s
cleaned db@n1 clear
spawned db@n1 400
memory db@n1
exited db@n1 code 0
main db@n1 401
memory db@n1
own db@n1 ready
memory db@n1
----
[999ms later]
clean db@n1
tell: db@n1 is cleaning
spawn db@n1 (start 4)
tell: db@n1 is starting
ask db@n1 fast
event: db@n1 started: pid 400
verify db@n1
{"incarnation":4,"main":false,"was_ready":false,"stopping":false,"completed":false,"spawned":1001020000000,"starts":4,"failures":1,"flags":[]}
find the main process of db@n1
event: db@n1 main-found: the daemon is pid 401
{"incarnation":4,"main":true,"was_ready":false,"stopping":false,"completed":false,"spawned":1001020000000,"starts":4,"failures":1,"flags":[]}
event: db@n1 ready: ready (fine)
tell: db@n1 is ready
ask db@n1 every 5s
{"incarnation":4,"main":true,"was_ready":true,"stopping":false,"completed":false,"spawned":1001020000000,"starts":4,"failures":1,"flags":[]}
