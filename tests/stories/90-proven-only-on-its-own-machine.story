# What is ready shows only on its own machine, by a program. A neighbour there asks for itself; the other half of an
# exclusive pair is on another machine, where only its agent can tell: its word is taken, and our own program says
# nothing of it.

cluster
[cluster]
name = "shop"
[nodes]
all = { n1 = "10.0.0.1", n2 = "10.0.0.2" }
[services]
broker = { on = ["n1", "n2"] }
socket = { on = "n1" }
app = { on = "n1", needs.socket = "same-node" }
end
unit broker
exclusive = true
[run]
command = ["/usr/bin/broker"]
[ready]
probe = { kind = "exec", command = ["/usr/bin/is-serving"] }
end
unit socket
[run]
command = ["/usr/bin/socket"]
[ready]
probe = { kind = "exec", command = ["/usr/bin/has-socket"] }
end
unit app
[run]
command = ["/usr/bin/app"]
[ready]
probe = { kind = "tcp", port = 9001 }
end
on n1

searched broker@n1 running 5
searched socket@n1 running 6
searched app@n1 nothing
own broker@n1 declined
own socket@n1 ready
show broker@n1
----
event: broker@n1 found-running: pid 5 still runs: kept
verify own broker@n1
tell: broker@n1 is starting
tell: socket@n1 is waiting
tell: app@n1 is waiting
ask own broker@n1 fast
ask own socket@n1 fast
event: socket@n1 found-running: pid 6 still runs: kept
verify own socket@n1
tell: socket@n1 is starting
tell: app@n1 is waiting
tell: broker@n1 is starting
event: socket@n1 ready: ready (fine)
tell: socket@n1 is ready
clean app@n1
tell: app@n1 is cleaning
ask own socket@n1 every 5s
broker@n1 is starting: it says no

peer broker@n2 ready
show broker@n1
----
event: broker@n1 standby: broker@n2 serves; this one is alive and waits for its turn
tell: broker@n1 is standby
ask own broker@n1 every 500ms
broker@n1 is standby: broker@n2 serves; this one is alive and waits for its turn

lost n2
own broker@n1 ready
cleaned app@n1 clear
own socket@n1 ready
show app@n1
----
verify own broker@n1
tell: broker@n1 is unready
event: broker@n1 ready: ready (fine)
tell: broker@n1 is ready
ask own broker@n1 every 5s
verify own socket@n1
tell: app@n1 is cleaning
spawn app@n1 (start 1)
tell: app@n1 is starting
ask app@n1 fast
app@n1 is starting: its own probe has not passed yet
  needs socket same-node: met, 1 of 1
