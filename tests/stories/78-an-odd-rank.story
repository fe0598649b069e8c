# Two services can serve the need, and the quick one alone makes it possible to start: so the application may come up
# before redis does. It leans on redis all the same, and when redis stops it is waited for.

cluster
[cluster]
name = "shop"
[nodes]
all = { n1 = "10.0.0.1", n2 = "10.0.0.2", n3 = "10.0.0.3" }
[services]
disk = { on = "n3" }
store = { on = "n3", needs.disk = "any" }
redis = { on = "n2", needs.store = "any" }
keydb = { on = "n3" }
app = { on = "n1", needs.cache = { of = ["redis", "keydb"], count = "any" } }
end
unit disk
[run]
command = ["/usr/bin/disk"]
[ready]
probe = { kind = "tcp", port = 9000 }
end
unit store
[run]
command = ["/usr/bin/store"]
[ready]
probe = { kind = "tcp", port = 9001 }
end
unit redis
[run]
command = ["/usr/bin/redis"]
[ready]
probe = { kind = "tcp", port = 9002 }
end
unit keydb
[run]
command = ["/usr/bin/keydb"]
[ready]
probe = { kind = "tcp", port = 9003 }
end
unit app
[run]
command = ["/usr/bin/app"]
[ready]
probe = { kind = "tcp", port = 9004 }
end
on n2

searched redis@n2 running 5 ready
own redis@n2 ready
answer store@n3 ready
peer app@n1 ready
neighbours
stop redis@n2
----
event: redis@n2 found-running: pid 5 still runs: kept
verify redis@n2
tell: redis@n2 is unready
ask store@n3 every 5s
ask redis@n2 every 500ms
event: redis@n2 ready: ready (fine)
tell: redis@n2 is ready
ask redis@n2 every 5s
listens to ["n1", "n3"]
event: redis@n2 held: by alice
save: redis@n2 is held by alice
event: redis@n2 leaving: held by alice
tell: redis@n2 is stopping, vetoed
reply: redis@n2 stopping: held by alice; waits for app@n1 (ready)

peer app@n1 waiting released redis@n2
----
event: redis@n2 stopping: held by alice
signal 15 to redis@n2
tell: redis@n2 is stopping, vetoed
ask redis@n2 no more
