//! Known good histories, in which nothing is found, and known bad ones, each with what is found.

mod black_box;
mod good;
mod leases;
mod lines;
mod reads;
mod rest;
mod streams;
mod writes;
