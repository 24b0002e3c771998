/* SPDX-License-Identifier: 0BSD
 *
 * lwIP as this guest has it: one context, no sockets, IPv4, and TCP with windows that large segments fit in.
 *
 * Sizes go together: what a connection may hold back of received buffers, times the connections, leaves a queue full
 * of them (link.c), and what it may have in flight, times the connections, is in MEM_SIZE.
 */
#ifndef LWIPOPTS_H
#define LWIPOPTS_H

#define NO_SYS 1
#define SYS_LIGHTWEIGHT_PROT 0
#define LWIP_NETCONN 0
#define LWIP_SOCKET 0
#define LWIP_RAW 0
#define LWIP_STATS 0
#define LWIP_SINGLE_NETIF 1
#define LWIP_NETIF_STATUS_CALLBACK 1
#define LWIP_NETIF_HOSTNAME 1

#define MEM_ALIGNMENT 8
#define MEM_SIZE (24 << 20)
#define MEMP_NUM_TCP_PCB 64
#define MEMP_NUM_TCP_PCB_LISTEN 8
#define MEMP_NUM_TCP_SEG 8192
#define MEMP_NUM_PBUF 4096 /* by reference: fragments, and headers before a payload of somebody else's */
#define MEMP_NUM_FRAG_PBUF 256
#define PBUF_POOL_SIZE 0 /* frames come in buffers of the driver's */

#define IP_REASS_MAX_PBUFS 64
#define LWIP_DHCP 1
#define LWIP_DHCP_DOES_ACD_CHECK 0
#define DHCP_DOES_ARP_CHECK 0

#define TCP_MSS 8960 /* a payload of 9000 bytes; smaller ones say so by their MTU */
#define TCP_WND (256 << 10)
#define TCP_SND_BUF TCP_WND /* an echo has room for all that it takes (streams.c) */
#define TCP_SND_QUEUELEN 2048
#define TCP_SNDLOWAT 8192
#define LWIP_WND_SCALE 1
#define TCP_RCV_SCALE 3
#define LWIP_TCP_SACK_OUT 1
#define TCP_OOSEQ_MAX_PBUFS 48

/* What the device does is not done twice: link.c switches these off as it agrees with it, and frame by frame. */
#define LWIP_CHECKSUM_CTRL_PER_NETIF 1
#define LWIP_CHKSUM_ALGORITHM 3

#endif
