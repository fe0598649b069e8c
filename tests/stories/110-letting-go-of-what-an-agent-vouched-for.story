# What is withdrawn still serves until those who lean on it have let go, also where its agent's word is the only proof.

cluster
[cluster]
name = "shop"
[nodes]
all = { n1 = "10.0.0.1", n2 = "10.0.0.2", n3 = "10.0.0.3" }
[services]
disk = { on = ["n1", "n2"] }
[services.app]
on = "n1"
needs.disk = { count = "all", proof = "agent" }
end
unit disk
[run]
command = ["/usr/bin/disk"]
[ready]
probe = { kind = "running", for = "1s" }
end
unit app
[run]
command = ["/usr/bin/app"]
[ready]
probe = { kind = "tcp", port = 9001 }
end
on n1

searched all nothing
cleaned disk@n1 clear
spawned disk@n1 5
after 1s
peer disk@n2 ready
cleaned app@n1 clear
spawned app@n1 6
own app@n1 ready
show app@n1
----
clean disk@n1
tell: disk@n1 is cleaning
tell: app@n1 is waiting
tell: app@n1 is waiting
spawn disk@n1 (start 1)
tell: disk@n1 is starting
event: disk@n1 started: pid 5
[999ms later]
event: disk@n1 ready
tell: disk@n1 is ready
tell: app@n1 is waiting
clean app@n1
tell: app@n1 is cleaning
spawn app@n1 (start 1)
tell: app@n1 is starting
ask app@n1 fast
event: app@n1 started: pid 6, after disk@n1 (its agent says ready), disk@n2 (its agent says ready)
verify app@n1
event: app@n1 ready: ready (fine)
tell: app@n1 is ready
ask app@n1 every 5s
app@n1 is ready: ready (fine)
  needs disk all: met, 2 of 2

# The one on the other machine is to go: app goes first, and only then is it released.
peer disk@n2 stopping veto 7
exited app@n1 code 0
swept app@n1
----
event: app@n1 leaving: its need disk would be lost: disk@n2 is being stopped (held by alice)
event: app@n1 stopping: its need disk would be lost: disk@n2 is being stopped (held by alice)
signal 15 to app@n1
tell: app@n1 is stopping, vetoed
ask app@n1 no more
event: app@n1 exited: exit code 0
sweep app@n1
tell: app@n1 is stopping, vetoed
event: app@n1 stopped: nothing of it runs
tell: app@n1 is waiting, has released disk@n2

peer disk@n2 stopped
peer disk@n2 ready
cleaned app@n1 clear
spawned app@n1 7
own app@n1 ready
----
tell: app@n1 is waiting
clean app@n1
tell: app@n1 is cleaning
spawn app@n1 (start 2)
tell: app@n1 is starting
ask app@n1 fast
event: app@n1 started: pid 7, after disk@n1 (its agent says ready), disk@n2 (its agent says ready)
verify app@n1
event: app@n1 ready: ready (fine)
tell: app@n1 is ready
ask app@n1 every 5s

# The same for the neighbour on this machine.
stop disk@n1
exited app@n1 code 0
swept app@n1
----
event: disk@n1 held: by alice
save: disk@n1 is held by alice
event: disk@n1 leaving: held by alice
tell: disk@n1 is stopping, vetoed
event: app@n1 leaving: its need disk would be lost: disk@n1 is held by alice
event: app@n1 stopping: its need disk would be lost: disk@n1 is held by alice
signal 15 to app@n1
tell: app@n1 is stopping, vetoed
tell: disk@n1 is stopping, vetoed
ask app@n1 no more
reply: disk@n1 stopping: held by alice; waits for app@n1 (stopping)
event: app@n1 exited: exit code 0
sweep app@n1
tell: app@n1 is stopping, vetoed
event: app@n1 stopped: nothing of it runs
tell: app@n1 is waiting, has released disk@n1
event: disk@n1 stopping: held by alice
signal 15 to disk@n1
tell: disk@n1 is stopping, vetoed

