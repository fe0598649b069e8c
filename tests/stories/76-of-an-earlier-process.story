# What comes late and speaks of an earlier process of the instance changes nothing for the present one.

cluster
[cluster]
name = "shop"
[nodes]
all = { n1 = "10.0.0.1", n2 = "10.0.0.2" }
[services]
db = { on = "n1" }
end
unit db
[run]
kind = "notify"
command = ["/usr/bin/db"]
end
on n1

searched all nothing
cleaned db@n1 clear
spawned db@n1 5
exited db@n1 code 1
journal db@n1
after 1s
cleaned db@n1 clear
spawned db@n1 6
----
clean db@n1
tell: db@n1 is cleaning
spawn db@n1 (start 1)
tell: db@n1 is starting
event: db@n1 started: pid 5
event: db@n1 exited: exit code 1
event: db@n1 backoff: exit code 1; next start in 1.0 s
tell: db@n1 is backoff
{"incarnation":1,"main":false,"was_ready":false,"stopping":false,"completed":false,"spawned":0,"starts":1,"failures":1,"flags":[]}
[998ms later]
clean db@n1
tell: db@n1 is cleaning
spawn db@n1 (start 2)
tell: db@n1 is starting
event: db@n1 started: pid 6

earlier says db@n1 READY=1
earlier exited db@n1 signal 9
earlier spawned db@n1 5
earlier swept db@n1
earlier spawn-failed db@n1 no such file
view db@n1
----
{"desired":"up","failures":1,"instance":"db@n1","pid":6,"reason":"has not said yet that it is ready","since_ms":12,"starts":2,"state":"starting"}

says db@n1 READY=1
stop db@n1
earlier exited db@n1 signal 9
earlier swept db@n1
view db@n1
journal db@n1
----
event: db@n1 ready
tell: db@n1 is ready
event: db@n1 held: by alice
save: db@n1 is held by alice
event: db@n1 leaving: held by alice
event: db@n1 stopping: held by alice
signal 15 to db@n1
tell: db@n1 is stopping, vetoed
reply: db@n1 stopping: held by alice
{"desired":"held","failures":1,"held_at":0,"held_because":"","held_by":"alice","instance":"db@n1","pid":6,"reason":"held by alice","since_ms":5,"starts":2,"state":"stopping","withdrawn":"db@n1 is held by alice"}
{"incarnation":2,"main":true,"was_ready":true,"stopping":true,"completed":false,"spawned":1001008000000,"starts":2,"failures":1,"flags":[]}
