# Nobody wrote that keepalived needs the web servers: it follows from the address that it holds, and so does how many.
# When they are stopped, the address goes first.

cluster
[cluster]
name = "shop"
[nodes]
lvs = { lvs1 = "10.0.0.11", lvs2 = "10.0.0.12" }
web = { web1 = "10.0.0.21", web2 = "10.0.0.22", web3 = "10.0.0.23" }
[services]
keepalived = { on = "lvs" }
web = { on = "web" }
[vips]
www = { address = "10.0.0.100/24", on = "lvs", to = "web", port = 80, enough = 2 }
end
unit keepalived
[run]
command = ["/usr/sbin/keepalived", "--dont-fork"]
[ready]
probe = { kind = "running" }
[leftovers]
vips = true
end
unit web
[run]
command = ["/usr/sbin/nginx", "-g", "daemon off;"]
[ready]
probe = { kind = "tcp", port = 80 }
end
on lvs1

# One is not enough.
searched all nothing
answer web@web1 ready
show keepalived@lvs1
----
tell: keepalived@lvs1 is waiting
ask web@web1 fast
ask web@web2 fast
ask web@web3 fast
tell: keepalived@lvs1 is waiting
ask web@web1 every 5s
keepalived@lvs1 is waiting: waits for web (2, 1 of 2)
  needs web 2: unmet, 1 of 2

# Two are.
answer web@web2 ready
cleaned keepalived@lvs1 clear
answer web@web1 ready
answer web@web2 ready
spawned keepalived@lvs1 412
after 2s
show keepalived@lvs1
----
clean keepalived@lvs1
tell: keepalived@lvs1 is cleaning
ask web@web2 every 5s
ask web@web3 every 5s
verify web@web1
verify web@web2
tell: keepalived@lvs1 is cleaning
spawn keepalived@lvs1 (start 1)
tell: keepalived@lvs1 is starting
event: keepalived@lvs1 started: pid 412, after web@web1 (fine), web@web2 (fine)
[999ms later]
event: keepalived@lvs1 ready
tell: keepalived@lvs1 is ready
keepalived@lvs1 is ready
  needs web 2: met, 2 of 2

# One of the two is to be stopped: keepalived goes before it.
peer web@web1 stopping veto 7
----
event: keepalived@lvs1 leaving: its need web would be lost: web@web1 is being stopped (held by alice)
event: keepalived@lvs1 stopping: its need web would be lost: web@web1 is being stopped (held by alice)
signal 15 to keepalived@lvs1
tell: keepalived@lvs1 is stopping, vetoed

exited keepalived@lvs1 code 0
swept keepalived@lvs1
show keepalived@lvs1
----
event: keepalived@lvs1 exited: exit code 0
sweep keepalived@lvs1
tell: keepalived@lvs1 is stopping, vetoed
event: keepalived@lvs1 stopped: nothing of it runs
release the addresses of keepalived@lvs1
tell: keepalived@lvs1 is waiting, has released web@web1
ask web@web1 fast
ask web@web3 fast
keepalived@lvs1 is waiting: waits for web (2, 1 of 2)
  needs web 2: unmet, 1 of 2

