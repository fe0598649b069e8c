# A bounded wait: the preview server may be left out after two minutes.

cluster
[cluster]
name = "shop"
[nodes]
web = { web1 = "10.0.0.21" }
office = { office1 = "10.0.0.71" }
[services]
office = { on = "office" }
[services.web]
on = "web"
needs.office = { count = "any", wait = "2m", then = "start" }
end
unit office
[run]
command = ["/usr/bin/soffice"]
[ready]
probe = { kind = "tcp", port = 2002 }
end
unit web
[run]
command = ["/usr/sbin/nginx"]
[ready]
probe = { kind = "tcp", port = 8080 }
end
on web1

searched all nothing
answer office@office1 refused
after 1m
----
tell: web@web1 is waiting
ask office@office1 fast
[499ms later]
verify office@office1

after 1m
cleaned web@web1 clear
spawned web@web1 700
own web@web1 ready
show web@web1
----
[59.997s later]
event: web@web1 waived: waited 120 s for office: starts without it
clean web@web1
tell: web@web1 is cleaning
spawn web@web1 (start 1)
tell: web@web1 is starting
ask office@office1 every 5s
ask web@web1 fast
event: web@web1 started: pid 700
verify web@web1
event: web@web1 ready: ready (fine)
tell: web@web1 is ready
ask web@web1 every 5s
web@web1 is ready: ready (fine)
  needs office any: met, 0 of 1

# It crashes: nobody waits another two minutes for what was waived.
exited web@web1 code 1
after 1s
----
event: web@web1 exited: exit code 1
event: web@web1 backoff: exit code 1; next start in 1.0 s
tell: web@web1 is backoff
ask web@web1 no more
[999ms later]
clean web@web1
tell: web@web1 is cleaning
ask office@office1 fast

cleaned web@web1 clear
spawned web@web1 701
own web@web1 ready
----
spawn web@web1 (start 2)
tell: web@web1 is starting
ask office@office1 every 5s
ask web@web1 fast
event: web@web1 started: pid 701
verify web@web1
event: web@web1 ready: ready (fine)
tell: web@web1 is ready
ask web@web1 every 5s

answer office@office1 ready
show web@web1
----
web@web1 is ready: ready (fine)
  needs office any: met, 1 of 1

