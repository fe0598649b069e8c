# The operator says why, and those who let go hand that on. A release of an earlier withdrawal is none of this one.

cluster
[cluster]
name = "shop"
[nodes]
all = { n1 = "10.0.0.1", n2 = "10.0.0.2", n3 = "10.0.0.3" }
[services]
db = { on = "n1" }
app = { on = "n2", needs.db = "any" }
end
unit db
[run]
command = ["/usr/bin/db"]
[ready]
probe = { kind = "tcp", port = 9000 }
end
unit app
[run]
command = ["/usr/bin/app"]
[ready]
probe = { kind = "tcp", port = 9001 }
end
on n1

searched all nothing
cleaned db@n1 clear
spawned db@n1 5
own db@n1 ready
peer app@n2 ready
stop db@n1 because new disks
view db@n1
----
clean db@n1
tell: db@n1 is cleaning
spawn db@n1 (start 1)
tell: db@n1 is starting
ask db@n1 fast
event: db@n1 started: pid 5
verify db@n1
event: db@n1 ready: ready (fine)
tell: db@n1 is ready
ask db@n1 every 5s
event: db@n1 held: by alice: new disks
save: db@n1 is held by alice
event: db@n1 leaving: held by alice: new disks
tell: db@n1 is stopping, vetoed
reply: db@n1 stopping: held by alice: new disks; waits for app@n2 (ready)
{"desired":"held","failures":0,"held_at":0,"held_because":"new disks","held_by":"alice","instance":"db@n1","own":{"answer":"ready","detail":"fine"},"pid":5,"reason":"held by alice: new disks; waits for app@n2 (ready)","since_ms":1,"starts":1,"state":"stopping","withdrawn":"db@n1 is held by alice: new disks"}

peer app@n2 waiting released-before db@n1
----
tell: db@n1 is stopping, vetoed

peer app@n2 waiting released db@n1
exited db@n1 code 0
swept db@n1 killed 2
memory db@n1
----
event: db@n1 stopping: held by alice: new disks
signal 15 to db@n1
tell: db@n1 is stopping, vetoed
ask db@n1 no more
event: db@n1 exited: exit code 0
sweep db@n1
tell: db@n1 is stopping, vetoed
event: db@n1 stopped: nothing of it runs; 2 process(es) that outlived the main one were killed
tell: db@n1 is stopped
{"incarnation":1,"main":false,"was_ready":false,"stopping":false,"completed":false,"spawned":0,"starts":1,"failures":0,"flags":[]}

start db@n1 because the disks are in
data
----
event: db@n1 released: by alice: the disks are in
save: db@n1 is to be up
clean db@n1
tell: db@n1 is cleaning
reply: db@n1 cleaning: judges what an earlier run left behind
data: {"by":"alice","clock":0,"force":false,"id":1,"reason":"the disks are in","timeout":{"nanos":0,"secs":60},"without":[]}
