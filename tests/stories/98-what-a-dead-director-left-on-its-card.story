# The addresses of one that was killed are taken off as soon as it is dead, and not only before its next start, which
# may be far away; after a stop, too, and by an agent that finds it dead.

cluster
[cluster]
name = "shop"
[vips.www]
address = "10.0.0.100/24"
on = "lvs1"
to = "web"
port = 80
[nodes]
lvs = { lvs1 = "10.0.0.1" }
web = { web1 = "10.0.0.3" }
[services]
keepalived = { on = "lvs" }
web = { on = "web" }
end
unit keepalived
[run]
command = ["/usr/sbin/keepalived", "--dont-fork"]
[ready]
probe = { kind = "running", for = "1s" }
[leftovers]
vips = true
[restart]
delay = "1m"
end
unit web
[run]
command = ["/usr/sbin/web"]
[ready]
probe = { kind = "tcp", port = 80 }
end
on lvs1

searched keepalived@lvs1 ended
----
event: keepalived@lvs1 exited: it ended while no agent was looking; its exit code is unknown
release the addresses of keepalived@lvs1
tell: keepalived@lvs1 is waiting
ask web@web1 fast

answer web@web1 ready
cleaned keepalived@lvs1 clear
answer web@web1 ready
spawned keepalived@lvs1 100
exited keepalived@lvs1 signal 9
----
clean keepalived@lvs1
tell: keepalived@lvs1 is cleaning
ask web@web1 every 5s
verify web@web1
tell: keepalived@lvs1 is cleaning
spawn keepalived@lvs1 (start 2)
tell: keepalived@lvs1 is starting
event: keepalived@lvs1 started: pid 100, after web@web1 (fine)
event: keepalived@lvs1 exited: killed by SIGKILL
release the addresses of keepalived@lvs1
event: keepalived@lvs1 backoff: killed by SIGKILL; next start in 60.0 s
verify web@web1
tell: keepalived@lvs1 is backoff
