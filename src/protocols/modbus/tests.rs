mod conversions;
mod framings;
mod messages;
mod oracle;
