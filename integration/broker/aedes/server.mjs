// Aedes on the listeners that the JSON file named by the argument asks for: ports of tcp, tls,
// mutual tls, ws and wss in this order, a unix socket, and the files of the certificates. Topics
// and filters below denied/ are refused.
import fs from 'node:fs'
import http from 'node:http'
import https from 'node:https'
import net from 'node:net'
import tls from 'node:tls'
import { Aedes } from 'aedes'
import { WebSocketServer, createWebSocketStream } from 'ws'

const settings = JSON.parse(fs.readFileSync(process.argv[2], 'utf8'))
const server = { cert: fs.readFileSync(settings.Cert), key: fs.readFileSync(settings.Key) }
const mutual = { ...server, ca: fs.readFileSync(settings.CA), requestCert: true, rejectUnauthorized: true }
const [tcpPort, tlsPort, mutualPort, wsPort, wssPort] = settings.Ports

const denied = (topic) => topic.startsWith('denied/')
const broker = await Aedes.createBroker({
  concurrency: 1000,
  authorizePublish: (client, packet, done) => done(denied(packet.topic) ? new Error('denied') : null),
  authorizeSubscribe: (client, subscription, done) => done(null, denied(subscription.topic) ? null : subscription)
})
for (const event of ['clientError', 'connectionError']) {
  broker.on(event, (client, error) => console.log(event, client && client.id, error && error.message))
}

// websockets makes an HTTP server take MQTT.
function websockets (web) {
  new WebSocketServer({ server: web, handleProtocols: (offered) => offered.has('mqtt') ? 'mqtt' : false })
    .on('connection', (socket, request) => broker.handle(createWebSocketStream(socket), request))
  return web
}

net.createServer(broker.handle).listen(tcpPort, '127.0.0.1')
net.createServer(broker.handle).listen(settings.Socket)
tls.createServer(server, broker.handle).listen(tlsPort, '127.0.0.1')
tls.createServer(mutual, broker.handle).listen(mutualPort, '127.0.0.1')
websockets(http.createServer()).listen(wsPort, '127.0.0.1')
websockets(https.createServer(server)).listen(wssPort, '127.0.0.1')
