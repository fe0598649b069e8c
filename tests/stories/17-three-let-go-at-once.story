# All three web servers are stopped at one time. The director lets two of them go while it has a third; when it has
# to stop itself, those that have gone meanwhile must not pass for servers it still has, although the last answers
# from here were good.

cluster
[cluster]
name = "shop"
[nodes]
lvs = { lvs1 = "10.0.0.11" }
web = { web1 = "10.0.0.21", web2 = "10.0.0.22" }
[services]
web = { on = "web" }
keepalived = { on = "lvs", needs.web = 1 }
end
unit web
[run]
command = ["/usr/sbin/nginx"]
[ready]
probe = { kind = "http", port = 80 }
end
unit keepalived
[run]
command = ["/usr/sbin/keepalived"]
[ready]
probe = { kind = "tcp", port = 9002 }
end
on lvs1

searched all nothing
answer web@web1 ready
answer web@web2 ready
cleaned keepalived@lvs1 clear
answer web@web1 ready
spawned keepalived@lvs1 20
own keepalived@lvs1 ready
peer web@web1 ready
peer web@web2 ready
----
tell: keepalived@lvs1 is waiting
ask web@web1 fast
ask web@web2 fast
clean keepalived@lvs1
tell: keepalived@lvs1 is cleaning
ask web@web1 every 5s
ask web@web2 every 5s
verify web@web1
verify web@web2
tell: keepalived@lvs1 is cleaning
spawn keepalived@lvs1 (start 1)
tell: keepalived@lvs1 is starting
ask keepalived@lvs1 fast
event: keepalived@lvs1 started: pid 20, after web@web1 (fine)
verify keepalived@lvs1
event: keepalived@lvs1 ready: ready (fine)
tell: keepalived@lvs1 is ready
ask keepalived@lvs1 every 5s

# There is another one: it is let go.
peer web@web1 stopping veto 1
----
tell: keepalived@lvs1 is ready, has released web@web1
verify web@web1

peer web@web1 stopped
peer web@web2 stopping veto 2
----
tell: keepalived@lvs1 is ready
event: keepalived@lvs1 leaving: its need web would be lost: web@web2 is being stopped (held by alice)
event: keepalived@lvs1 stopping: its need web would be lost: web@web2 is being stopped (held by alice)
signal 15 to keepalived@lvs1
tell: keepalived@lvs1 is stopping, vetoed
verify web@web2
ask keepalived@lvs1 no more

exited keepalived@lvs1 code 0
swept keepalived@lvs1
----
event: keepalived@lvs1 exited: exit code 0
sweep keepalived@lvs1
tell: keepalived@lvs1 is stopping, vetoed
event: keepalived@lvs1 stopped: nothing of it runs
clean keepalived@lvs1
tell: keepalived@lvs1 is cleaning, has released web@web2

