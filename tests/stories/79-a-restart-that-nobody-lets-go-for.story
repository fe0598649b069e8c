# on-loss = "restart": its own dependent is on a machine that does not answer, so nobody lets go. The restart waits for
# a minute and is given up; the process runs on.

cluster
[cluster]
name = "shop"
[nodes]
all = { n1 = "10.0.0.1", n2 = "10.0.0.2", n3 = "10.0.0.3" }
[services]
db = { on = "n2" }
web = { on = "n3", needs.app = "any" }
[services.app]
on = "n1"
needs.db = { count = "any", on-loss = "restart", grace = "10s" }
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
unit web
[run]
command = ["/usr/bin/web"]
[ready]
probe = { kind = "tcp", port = 9002 }
end
on n1

searched app@n1 running 5 ready
own app@n1 ready
answer db@n2 ready
peer web@n3 ready
lost n3
answer db@n2 refused
after 500ms
answer db@n2 refused
after 500ms
answer db@n2 refused
after 11s
answer db@n2 ready
show app@n1
----
event: app@n1 found-running: pid 5 still runs: kept
verify app@n1
tell: app@n1 is unready
ask db@n2 every 5s
ask app@n1 every 500ms
event: app@n1 ready: ready (fine)
tell: app@n1 is ready
ask app@n1 every 5s
[499ms later]
verify db@n2
[499ms later]
verify db@n2
event: app@n1 need-lost: lost its need db: db (any, 0 of 1)
event: app@n1 need-found: has its need db again
event: app@n1 leaving: its need db is back after a loss
tell: app@n1 is stopping, vetoed
app@n1 is stopping: its need db is back after a loss; waits for web@n3 (its agent does not answer; last heard ready)
  needs db any: met, 1 of 1

after 70s
show app@n1
heard web@n3
----
[998ms later]
tell: app@n1 is stopping, vetoed
[1.998s later]
tell: app@n1 is stopping, vetoed
[2.998s later]
tell: app@n1 is stopping, vetoed
[3.998s later]
tell: app@n1 is stopping, vetoed
[4.998s later]
tell: app@n1 is stopping, vetoed
[5.998s later]
tell: app@n1 is stopping, vetoed
[6.998s later]
tell: app@n1 is stopping, vetoed
[7.998s later]
tell: app@n1 is stopping, vetoed
[8.998s later]
tell: app@n1 is stopping, vetoed
[9.998s later]
tell: app@n1 is stopping, vetoed
[10.998s later]
tell: app@n1 is stopping, vetoed
[11.998s later]
tell: app@n1 is stopping, vetoed
[12.998s later]
tell: app@n1 is stopping, vetoed
[13.998s later]
tell: app@n1 is stopping, vetoed
[14.998s later]
tell: app@n1 is stopping, vetoed
[15.998s later]
tell: app@n1 is stopping, vetoed
[16.998s later]
tell: app@n1 is stopping, vetoed
[17.998s later]
tell: app@n1 is stopping, vetoed
[18.998s later]
tell: app@n1 is stopping, vetoed
[19.998s later]
tell: app@n1 is stopping, vetoed
[20.998s later]
tell: app@n1 is stopping, vetoed
[21.998s later]
tell: app@n1 is stopping, vetoed
[22.998s later]
tell: app@n1 is stopping, vetoed
[23.998s later]
tell: app@n1 is stopping, vetoed
[24.998s later]
tell: app@n1 is stopping, vetoed
[25.998s later]
tell: app@n1 is stopping, vetoed
[26.998s later]
tell: app@n1 is stopping, vetoed
[27.998s later]
tell: app@n1 is stopping, vetoed
[28.998s later]
tell: app@n1 is stopping, vetoed
[29.998s later]
tell: app@n1 is stopping, vetoed
[30.998s later]
tell: app@n1 is stopping, vetoed
[31.998s later]
tell: app@n1 is stopping, vetoed
[32.998s later]
tell: app@n1 is stopping, vetoed
[33.998s later]
tell: app@n1 is stopping, vetoed
[34.998s later]
tell: app@n1 is stopping, vetoed
[35.998s later]
tell: app@n1 is stopping, vetoed
[36.998s later]
tell: app@n1 is stopping, vetoed
[37.998s later]
tell: app@n1 is stopping, vetoed
[38.998s later]
tell: app@n1 is stopping, vetoed
[39.998s later]
tell: app@n1 is stopping, vetoed
[40.998s later]
tell: app@n1 is stopping, vetoed
[41.998s later]
tell: app@n1 is stopping, vetoed
[42.998s later]
tell: app@n1 is stopping, vetoed
[43.998s later]
tell: app@n1 is stopping, vetoed
[44.998s later]
tell: app@n1 is stopping, vetoed
[45.998s later]
tell: app@n1 is stopping, vetoed
[46.998s later]
tell: app@n1 is stopping, vetoed
[47.998s later]
tell: app@n1 is stopping, vetoed
[48.998s later]
tell: app@n1 is stopping, vetoed
[49.998s later]
tell: app@n1 is stopping, vetoed
[50.998s later]
tell: app@n1 is stopping, vetoed
[51.998s later]
tell: app@n1 is stopping, vetoed
[52.998s later]
tell: app@n1 is stopping, vetoed
[53.998s later]
tell: app@n1 is stopping, vetoed
[54.998s later]
tell: app@n1 is stopping, vetoed
[55.998s later]
tell: app@n1 is stopping, vetoed
[56.998s later]
tell: app@n1 is stopping, vetoed
[57.998s later]
tell: app@n1 is stopping, vetoed
[58.998s later]
tell: app@n1 is stopping, vetoed
[59.998s later]
tell: app@n1 is ready
event: app@n1 stop-given-up: not stopped: after 60 s these dependents had not let go: web@n3
event: app@n1 stays: need not stop any more
verify app@n1
event: app@n1 ready: ready (fine)
tell: app@n1 is ready
app@n1 is ready: ready (fine)
  needs db any: met, 1 of 1
of web@n3 was heard: ready, 82012 ms ago
