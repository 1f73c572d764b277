mod framings;
mod messages;
mod oracle;
